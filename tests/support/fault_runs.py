"""Run the real command, inject faults into its processes and files, and measure what each fault costs."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nccl_bench.analysis.failures import failures
from nccl_bench.ranks.progress import Position, read_positions
from nccl_bench.records.run import SAMPLES, Run
from tests.support.command import Sandbox
from tests.support.launched_processes import LaunchedProcesses, is_alive

# A case takes about 0.1 s, and no run reaches its last case.
FIRST_SIZE_BYTES = 1024
STEP_BYTES = 16
ARGUMENTS = (
    *("run", "--nproc", "2", "--sizes", f"{FIRST_SIZE_BYTES}:64K:+{STEP_BYTES}"),
    *("--arms", "stream-free,torch", "--timing", "eager", "--rounds", "1", "--max-rounds", "1", "-w", "1", "-n", "4"),
    "--same-buffer",
    "--full",
)
ARMS = ("stream-free", "torch", "stream-free:twin")
# The time limit of a case. A case that a busy machine slows must not reach it.
TIMEOUT_S = 4.0
# So many cases succeed before each fault, so that faults never count as failures in a row.
CASES_BETWEEN = 2
_PROGRESS = re.compile(r"nccl-bench: \d+ of \d+ cases, ")
_POLL_S = 0.02
_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """The cost of a fault."""

    fault: str  # the name of the fault
    # From the fault, or from the deadline that the fault let pass, to the next measured line. For a fault that ends the
    # command: to the end of its last process.
    seconds: float
    went_on: bool  # True if measuring went on; False if the command ended
    lost: int  # the cases that are missing in the record besides the case in hand
    processes_left: int  # the processes of the command, or of the ended launch, that still run
    scratch_left: int  # the temporary files that are left; 0 while the command runs
    message: str  # what the user reads


class FaultRun:
    """A command that runs, in a directory of its own. Use it in a ``with`` block, which ends its processes."""

    def __init__(
        self, directory: Path, *, device: str = "cpu", faults: Iterable[dict[str, object]] = (), **variables: str
    ) -> None:
        self.directory = directory
        self.sandbox = Sandbox(directory)
        self.out = self.sandbox.cwd / "there"
        env = self.sandbox.environment(list(faults), **variables)
        self.command = self.sandbox.start_quietly(
            *ARGUMENTS, "--device", device, "-T", f"{TIMEOUT_S:g}", "--out", "there", env=env
        )
        self.launched = LaunchedProcesses(self.command.pid, self.sandbox.temporary)
        self._lines: list[dict[str, Any]] = []
        self._read_bytes = 0
        self._in_hand: set[int] = set()  # the cases that faults may have cost

    def __enter__(self) -> FaultRun:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in {self.command.pid, *self.sandbox.processes()}:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        self.command.wait()

    def survive(self, fault: str, inject: Callable[[], None]) -> Injection:
        """Inject a fault that ends a launch. Return once the next launch measures."""
        old, before = self.launched.by_name(), len(self.ends())
        inject()
        start, launch = time.monotonic(), self.launched.launch()
        self.wait_for(lambda: self.measured_after(before))
        seconds = time.monotonic() - start
        *_, end = ends = self.ends()[before:]
        *_, message = failures(Run.load(self.out))
        if end["kind"] == "hang" and launch is not None:
            deadlines = [position.deadline for position in read_positions(launch) if position.deadline is not None]
            seconds -= max(0.0, min(deadlines) - start)
        self._in_hand |= {each["case_index"] for each in ends}
        return Injection(
            fault=fault,
            seconds=seconds,
            went_on=True,
            lost=len(self._missing()),
            processes_left=sum(is_alive(pid) for name, pid in old.items() if name.startswith("rank")),
            scratch_left=0,
            message=message,
        )

    def end(self, fault: str, inject: Callable[[], None]) -> Injection:
        """Inject a fault that ends the command. Return once no process is left, or after ten seconds."""
        self.lines()
        self._in_hand |= {position.case_index for position in self.launched.positions()}
        inject()
        start = time.monotonic()
        self.wait_for(lambda: self.command.poll() is not None, running=False)
        give_up = time.monotonic() + 10
        while (left := self.sandbox.processes()) and time.monotonic() < give_up:
            time.sleep(_POLL_S)
        return Injection(
            fault=fault,
            seconds=time.monotonic() - start,
            went_on=False,
            lost=len(self._missing()),
            processes_left=len(left),
            scratch_left=len(list(self.sandbox.temporary.rglob("*"))),
            message=self._last_message(),
        )

    def kill(self, *names: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to processes, named as ``LaunchedProcesses.by_name`` names them."""
        processes = self.launched.by_name()
        for name in names:
            os.kill(processes[name], number)

    def signal_in_next_set_up(self, number: signal.Signals) -> None:
        """Send ``number`` to rank 1 while the next launch sets up. If a launch runs, end it first."""
        launch = self.launched.launch()
        if launch is not None:
            self.kill("rank 0")
        positions: list[Position] = []

        def in_set_up() -> bool:
            if self.launched.launch() != launch:
                positions.extend(each for each in self.launched.positions() if each.rank == 1)
            return bool(positions)

        self.wait_for(in_set_up)
        assert positions[0].case_index == -1, positions
        os.kill(positions[0].pid, number)

    def wait_for_deadline(self) -> None:
        """Return when a rank has let its deadline pass."""
        self.wait_for(lambda: any((each.deadline or 1e9) < time.monotonic() for each in self.launched.positions()))

    def wait_for_cases(self) -> None:
        """Return when this launch has measured ``CASES_BETWEEN`` cases and is in another one."""
        first: list[int] = []

        def enough() -> bool:
            cases = [each.case_index for each in self.launched.positions()]
            if len(cases) < 2 or min(cases) < 0:
                return False
            first.append(min(cases))
            return min(cases) > first[0] + CASES_BETWEEN

        self.wait_for(enough)

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of the record. What was read stays known after the record was removed."""
        with suppress(FileNotFoundError), (self.out / SAMPLES).open("rb") as file:
            file.seek(self._read_bytes)
            complete = file.read().rpartition(b"\n")[0].splitlines(keepends=True)
            self._lines += map(json.loads, complete)
            self._read_bytes += sum(map(len, complete)) + bool(complete)
        return self._lines

    def ends(self) -> list[dict[str, Any]]:
        """Return the recorded hangs and crashes."""
        return [line for line in self.lines() if line["kind"] in ("hang", "crash")]

    def measured_after(self, ends: int) -> bool:
        """Return whether a line was measured after the newest hang or crash, of which there are more than ``ends``."""
        lines = self.lines()
        failed = [index for index, line in enumerate(lines) if line["kind"] in ("hang", "crash")]
        return len(failed) > ends and any(line["kind"] == "samples" for line in lines[failed[-1] :])

    def _last_message(self) -> str:
        """Return the last line on standard error; a command that runs for ten seconds also writes how far it is."""
        lines = (self.sandbox.cwd / "stderr").read_text(encoding="utf-8").splitlines()
        return next((line for line in reversed(lines) if not _PROGRESS.match(line)), "")

    def _missing(self) -> list[int]:
        """Return the cases without complete results between the first and the last one, but for those in hand."""
        arms_of: dict[int, set[str]] = {}
        for line in self.lines():
            if line["kind"] == "samples" and line["status"] == "ok":
                index = (line["case"]["size_bytes"] - FIRST_SIZE_BYTES) // STEP_BYTES
                arms_of.setdefault(index, set()).add(line["arm"])
        last = max(arms_of, default=-1)
        return [index for index in range(last) if arms_of.get(index, set()) < set(ARMS) and index not in self._in_hand]

    def wait_for(self, condition: Callable[[], bool], *, running: bool = True) -> None:
        """Return when ``condition`` holds. Fail after a minute or, if ``running``, if the command has ended."""
        give_up = time.monotonic() + _LIMIT_S
        while not condition():
            output = self.sandbox.cwd / "stderr"
            assert not running or self.command.poll() is None, f"the command ended: {output.read_text()}"
            assert time.monotonic() < give_up, (self.launched.positions(), output.read_text())
            time.sleep(_POLL_S)
