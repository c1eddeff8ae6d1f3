"""Every command that reads a file answers at once, in one line, if the file is none that it can read."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from nccl_bench.config.verification import resolve_verification
from nccl_bench.errors import ExitCode
from nccl_bench.records.environment import proc_fields
from nccl_bench.records.run import FINDINGS, RUN, SAMPLES, VERIFICATION
from nccl_bench.safety.regular_files import MOST_BYTES_OF_TEXT
from tests.support.command_line import ROOT, CommandLine, run_process
from tests.support.findings import make_findings, write_verification

pytestmark = pytest.mark.timeout(60)

BRACKETS = 100_000
COLUMNS = 200_000
RECORD = ROOT / "tests" / "data" / "cpu-2-cores"


def make_sparse(file: Path) -> None:
    with file.open("wb") as opened:
        opened.truncate(10_000_000_000)


def make_socket(file: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        # The path of a socket has at most 107 bytes.
        opened.bind(os.path.relpath(file))


# What stands in place of a file -> how it is made.
PLANTED: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "directory": Path.mkdir,
    "device": lambda file: file.symlink_to("/dev/zero"),
    "terminal": lambda file: file.symlink_to("/dev/tty"),
    "link to itself": lambda file: file.symlink_to(file),
    "link to a long name": lambda file: file.symlink_to("x" * 300),
    "link to nothing": lambda file: file.symlink_to("nothing"),
    "socket": make_socket,
    "sparse file": make_sparse,
    "brackets": lambda file: file.write_text("[" * BRACKETS + "]" * BRACKETS + "\n"),
    "objects": lambda file: file.write_text('{"kind":' * BRACKETS + "1" + "}" * BRACKETS + "\n"),
    "line": lambda file: file.write_text('{"kind": "end", "case": ' + "[" * BRACKETS + "]" * BRACKETS + "}\n"),
    "dots": lambda file: file.write_text("a." * 30_000 + "a = 1\n"),
    "columns": lambda file: file.write_text(",".join(map(str, range(COLUMNS))) + "\n"),
    "digits": lambda file: file.write_text('{"schema": ' + "9" * BRACKETS + "}\n"),
    "no text": lambda file: file.write_bytes(b"\xff\xfe\n" * 1000),
}


def commands(directory: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield paths at which there is no file, each with a command line that reads it."""
    run, verification = directory / "run", directory / "verification"
    shutil.copytree(RECORD, run)
    verification.mkdir()
    config = resolve_verification("cpu", {})
    write_verification(verification, config, make_findings(config))
    for name in (RUN, SAMPLES):
        content = (run / name).read_bytes()
        (run / name).unlink()
        yield run / name, ["report", str(run)]
        yield run / name, ["compare", str(RECORD), str(run)]
        yield run / name, ["run", "--resume", str(run)]
        (run / name).write_bytes(content)
    for name in (VERIFICATION, FINDINGS):
        content = (verification / name).read_bytes()
        (verification / name).unlink()
        yield verification / name, ["report", str(verification)]
        yield verification / name, ["verify", "--resume", str(verification)]
        (verification / name).write_bytes(content)
    for name, *arguments in (
        ("other.txt", "import"),
        ("other.json", "import"),
        ("other.json", "trace"),
        ("other.csv", "compare", str(RECORD)),
        ("other.log", "compare", str(RECORD)),
        ("other.toml", "run", "--dry-run", "--device", "cpu", "--limits"),
        ("other.toml", "compare", str(RECORD), str(RECORD), "--limits"),
    ):
        yield directory / name, [*arguments, str(directory / name)]
    yield directory / "other.toml", ["run", "--dry-run", "--device", "cpu", str(directory / "other.toml")]


# The kinds that may not even be opened: this could wait for ever, or change a device.
NEVER_OPENED = ("pipe", "directory", "device", "terminal", "socket")
# The most that a command reads of a file before it refuses it, and of its own code meanwhile.
MOST_READ = MOST_BYTES_OF_TEXT + 32 * 1024**2
opened: list[str] = []


@cache
def watch_opened_files() -> None:
    """Keep the names of all files that this process opens from now on. Python cannot remove such a hook."""
    sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)


def bytes_read() -> int:
    """Return the number of bytes that this process has read so far."""
    return int(proc_fields(Path("/proc/self/io"))["rchar"])


@pytest.mark.parametrize("kind", PLANTED)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(
    kind: str, tmp_path: Path, command_line: CommandLine
) -> None:
    watch_opened_files()
    for file, arguments in commands(tmp_path):
        PLANTED[kind](file)
        opened.clear()
        before = bytes_read()
        code, printed, message = command_line.run(*arguments)
        # These two make the answer quick, on any machine.
        assert kind not in NEVER_OPENED or str(file) not in opened, arguments
        assert bytes_read() - before < MOST_READ, arguments
        assert code in (ExitCode.USAGE, ExitCode.SETUP), arguments
        assert not printed, arguments
        assert message.startswith("nccl-bench: "), arguments
        assert message.endswith("\n"), arguments
        assert message.count("\n") == 1, arguments
        assert len(message) < 1000, arguments
        shutil.rmtree(file) if kind == "directory" else file.unlink()


# Prints every event in which this process opens, imports or starts something whose name is planted.
WATCHED = """
import json, sys
seen = []
def watch(event, arguments):
    if event in ("open", "import", "exec", "os.exec", "os.listdir", "os.scandir", "subprocess.Popen", "ctypes.dlopen"):
        if "planted" in repr(arguments) and event != "exec":
            seen.append(event)
sys.addaudithook(watch)
from nccl_bench.cli import main
codes = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["nccl-bench", *arguments]
    try:
        main()
    except SystemExit as end:
        codes.append(end.code)
sys.stderr.write(f"SEEN {codes} {seen}")
"""


def test_no_reader_opens_imports_or_runs_what_a_record_names(tmp_path: Path) -> None:
    named = tmp_path / "planted"
    named.mkdir()
    (named / "planted.py").write_text("raise SystemExit(99)")
    os.mkfifo(named / "pipe")
    run = tmp_path / "run"
    shutil.copytree(RECORD, run)
    meta = json.loads((run / RUN).read_text())
    meta["started"] = "2026-01-01T00:00:00+00:00"  # a copy of a run is not compared with it
    arm = {"name": "mine", "target": f"{named}/planted.py:make", "tree": str(named), "python": f"{named}/pipe"}
    meta["config"] |= {"nccl_library": f"{named}/pipe", "user_arms": [arm | {"library": f"{named}/pipe"}]}
    meta["config"] |= {"variables": {"LD_PRELOAD": f"{named}/pipe"}, "limits": [], "source": [f"{named}/pipe"]}
    meta["worker"]["transport"] |= {"path": f"{named}/pipe"}
    meta["worker"] |= {"libraries": [{"arm": "torch", "version": "2", "path": f"{named}/pipe"}]}
    (run / RUN).write_text(json.dumps(meta))
    document = json.loads((ROOT / "tests" / "data" / "nccl-tests" / "all_reduce.json").read_text())
    document["env"] = [f"LD_PRELOAD={named}/pipe", f"NCCL_TOPO_FILE={named}/pipe"]
    (tmp_path / "sent.json").write_text(json.dumps(document))
    reading = [
        *(("report", str(run), "--format", kind) for kind in ("terminal", "html", "json")),
        ("compare", str(RECORD), str(run), "--allow-mismatch"),
        ("import", str(tmp_path / "sent.json"), "--out", str(tmp_path / "imported")),
    ]
    # All in one process, since each process takes a second to start.
    _, _, stderr = run_process("-c", WATCHED, json.dumps(reading))
    assert stderr.rpartition("SEEN ")[2] == f"{[0] * len(reading)} []", stderr
