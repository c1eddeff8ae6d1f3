"""The facts that a process which imports torch reports. A broken torch then breaks only that process."""

import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

# The first import of torch from a slow disk can take a minute.
TORCH_S = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchFacts:
    """The facts of the process. A fact that is not known is ``None`` or empty."""

    problem: str = ""  # why torch cannot be imported; empty if it was imported
    torch: str | None = None  # torch's version
    file: str | None = None  # the file of torch's package
    cuda: str | None = None  # the version of CUDA for which torch was built; None for a CPU build
    devices: int = 0  # the GPUs that torch can use
    cuda_problem: str = ""  # why torch cannot use a GPU; empty if it can, or if it is a CPU build
    multicast: tuple[bool, ...] = ()  # for each GPU, True if its driver offers NVLink multicast
    library: str | None = None  # the libnccl that the arms of this tool call
    library_source: str = ""  # how that libnccl was found
    library_problem: str = ""  # why there is no libnccl to call; empty if there is one
    torch_library: str | None = None  # the libnccl that torch calls; None if it calls none
    loaded: tuple[str, ...] = ()  # all copies of libnccl in the process
    nccl4py: str | None = None  # the version of nccl4py; None if it is not installed
    nccl4py_library: str | None = None  # the libnccl that nccl4py calls
    nccl4py_problem: str = ""  # why nccl4py cannot be used; empty if it can, or if it is not installed

    def to_json(self) -> str:
        """Return the facts as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> "TorchFacts":
        """Return the facts of ``to_json``; raise ``ValueError`` for another text."""
        values: Mapping[str, Any] = json.loads(line)
        if not isinstance(values, Mapping) or values.keys() != {each.name for each in fields(cls)}:
            raise ValueError("not the facts of the process that imports torch")
        tuples: dict[str, Any] = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**{**values, **tuples})


def begin_torch(
    command: Sequence[str], environ: Mapping[str, str], wait_s: float = TORCH_S
) -> Callable[[], TorchFacts]:
    """Start ``command``, a process that prints its ``TorchFacts``. Return a function that waits for these facts.

    The function kills the process after ``wait_s``. A process that cannot be started, fails or prints something else
    has a ``problem``.
    """
    # Files, since a pipe that nobody reads can stop the process.
    stdout, stderr = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - closed by `wait`
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=dict(environ))
    except OSError as error:
        problem = str(error)
        return lambda: TorchFacts(problem=problem)
    known: list[TorchFacts] = []

    def wait() -> TorchFacts:
        if not known:
            try:
                process.wait(wait_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                known.append(TorchFacts(problem=f"its import did not end within {wait_s:g} s"))
            else:
                known.append(_facts(process.returncode, _read(stdout), _read(stderr)))
            stdout.close()
            stderr.close()
        return known[0]

    return wait


def _read(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode("utf-8", errors="replace"))


def _facts(code: int, stdout: str, stderr: str) -> TorchFacts:
    # Imports may print too, so the facts are the last line.
    line = stdout.strip().rpartition("\n")[2]
    try:
        return TorchFacts.from_json(line)
    except ValueError:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        last = stderr.strip().rpartition("\n")[2]
        return TorchFacts(problem=f"its import ended the process with {how}" + (f": {last}" if last else ""))
