"""Read a million damaged and hostile files, and list every error that is not one of the package's own.

nice python -m tests.experiments.fuzz_readers --inputs 1000000

Each input is a real file with a few changes: of values, keys and types by the structure of its JSON, of lines, of words
or of bytes. It is made from the seed, the reader's name and its number, so the same command makes the same inputs. What
can be read is also reported, for one input of ``--report-every``. An input fails if it ends in another exception than
the package's own, or takes more than a second of processor time or 512 MB. A failure of a new kind is kept in
``tests/data/fuzz``, which is the corpus: ``tests/unit/test_fuzzed_readers.py`` reads it again, and fuzzes for some
seconds.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from nccl_bench.errors import NcclBenchError
from tests.support.fuzz_seeds import Files
from tests.support.fuzzed_readers import READERS, Reader

CORPUS = Path(__file__).parents[1] / "data" / "fuzz"
MOST_SECONDS = 1.0
MOST_BYTES = 512 * 1024**2


class TooSlowError(BaseException):
    """An input that takes too long. It is no ``Exception``, so that no reader catches it."""


class Fuzzer:
    """Feeds inputs to the readers, and counts what happens."""

    def __init__(self, scratch: Path, report_every: int, kept: Path | None) -> None:
        self._scratch = scratch
        self._kept = kept
        self._report_every = report_every
        self._seeds = {name: reader.seeds() for name, reader in READERS.items()}
        self.inputs: Counter[str] = Counter()
        self.read: Counter[str] = Counter()
        self.reported = 0
        self.failures: Counter[str] = Counter()

    def feed(self, name: str, seed: int, number: int) -> None:
        """Make the input ``number`` of a reader and read it."""
        chance = random.Random(f"{seed} {name} {number}")
        reader = READERS[name]
        files = dict(chance.choice(self._seeds[name]))
        changed = chance.choice(sorted(files))
        files[changed] = reader.change(chance, changed, files[changed])
        self.inputs[name] += 1
        failure = self.try_input(name, reader, files, chance, reported=number % self._report_every == 0)
        if failure is not None:
            kind, text = failure
            self.failures[kind] += 1
            if self.failures[kind] == 1:
                where = "" if self._kept is None else f", kept in {keep(self._kept, name, kind, files)}"
                print(f"{name} {number}{where}:\n{text}", flush=True)

    def try_input(
        self, name: str, reader: Reader, files: Files, chance: random.Random, *, reported: bool
    ) -> tuple[str, str] | None:
        """Read ``files``; return the kind of failure and its traceback, or ``None`` if all is well."""
        for file, content in files.items():
            (self._scratch / file).write_bytes(content)
        try:
            with limited_time():
                reader.use(self._scratch, chance, reported)
        except NcclBenchError as error:
            str(error).encode()
        except (Exception, TooSlowError) as error:  # noqa: BLE001 - this is what the command looks for
            return kind_of(error), "".join(traceback.format_exception(error))
        else:
            self.read[name] += 1
            self.reported += reported
        finally:
            for file in self._scratch.iterdir():
                file.unlink()
        return None


def kind_of(error: BaseException) -> str:
    """Return a text that failures of the same cause share: the exception, and the last lines of the package."""
    frames = [
        f"{Path(frame.filename).stem}.{frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if "nccl_bench" in frame.filename
    ]
    if isinstance(error, TooSlowError | MemoryError | RecursionError):
        frames = frames[:3]
    return " ".join((type(error).__name__, *frames[-2:]))


def keep(kept: Path, name: str, kind: str, files: Files) -> Path:
    """Write ``files`` into the directory ``kept``, which is a corpus, and return where they are."""
    directory = kept / name / "".join(each if each.isalnum() else "-" for each in kind)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for file, content in files.items():
        (directory / file).write_bytes(content)
    return directory


def corpus() -> Iterator[tuple[str, Path]]:
    """Yield the reader's name and the directory of each kept input."""
    for name in READERS:
        for directory in sorted((CORPUS / name).glob("*/")):
            yield name, directory


def files_of(directory: Path) -> Mapping[str, bytes]:
    """Return a kept input."""
    return {file.name: file.read_bytes() for file in sorted(directory.iterdir())}


@contextmanager
def limited_time() -> Iterator[None]:
    """Raise ``TooSlowError`` after a second of this process's time, which does not pass while other processes run."""
    signal.setitimer(signal.ITIMER_VIRTUAL, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def raise_too_slow(_signal: int, _frame: FrameType | None) -> None:
    """Handle the timer of ``limited_time``."""
    raise TooSlowError


def limit_memory() -> None:
    """Let this process have ``MOST_BYTES`` more than it has now, beyond which every allocation fails."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + MOST_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="number of inputs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=0, help="number of the first input")
    parser.add_argument("--readers", default=",".join(READERS), help="names, comma-separated")
    parser.add_argument("--report-every", type=int, default=20, help="report one input of this many")
    arguments = parser.parse_args()
    warnings.simplefilter("error")
    signal.signal(signal.SIGVTALRM, raise_too_slow)
    names = [name for name in arguments.readers.split(",") for _ in range(READERS[name].share)]
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as scratch:
        fuzzer = Fuzzer(Path(scratch), arguments.report_every, CORPUS)
        for name, directory in corpus():
            failure = fuzzer.try_input(name, READERS[name], files_of(directory), random.Random(0), reported=True)
            if failure is not None:
                print(f"{directory}: {failure[0]}", flush=True)
        limit_memory()
        started = time.monotonic()
        for number in range(arguments.start, arguments.start + arguments.inputs):
            fuzzer.feed(random.Random(number).choice(names), arguments.seed, number)
            if number % 10_000 == 9_999:
                print(f"{number + 1} inputs, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    for name, count in fuzzer.inputs.items():
        print(f"{name}: {count} inputs, {fuzzer.read[name]} of them can be read")
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{fuzzer.reported} reports; {time.monotonic() - started:.0f} s; peak memory {peak_mb:.0f} MB")
    for kind, count in fuzzer.failures.most_common():
        print(f"{count} x {kind}")
    return 1 if fuzzer.failures else 0


if __name__ == "__main__":
    sys.exit(main())
