"""Runs an audit: starts every rank of a program under watch, and joins what the ranks found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from nccl_bench.audit.findings.audit import Audit, join_ranks
from nccl_bench.audit.findings.record import RankFindings, read_findings
from nccl_bench.audit.findings.suppressions import Suppression
from nccl_bench.audit.program import Program
from nccl_bench.audit.spec import AuditSpec
from nccl_bench.errors import InterruptedRunError
from nccl_bench.launch.config import LaunchConfig
from nccl_bench.launch.supervise import Starter, supervise
from nccl_bench.ranks.progress import Position
from nccl_bench.records.schema import Crash, Hang
from nccl_bench.safety.secrets import masked

WORKER = "nccl_bench.audit.worker"


class RankOutput:
    """The output of the ranks of a launch, which torch's launcher writes into files."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._read: dict[Path, int] = {}  # each file -> how many of its bytes were returned

    def new_lines(self, *, whole: bool = True) -> Iterator[tuple[int, str]]:
        """Yield the local rank and the text of each new line; without ``whole``, also of unfinished lines."""
        # The layout of torch's launcher is LOG_DIR/RUN_ID_RANDOM/attempt_0/LOCAL_RANK/stdout.log.
        for path in sorted(self._scratch.glob("launch-*/logs/*/attempt_0/*/std*.log")):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                content = file.read()
            content = content[: content.rfind(b"\n") + 1] if whole else content
            self._read[path] = self._read.get(path, 0) + len(content)
            for line in content.decode(errors="replace").splitlines():
                yield int(path.parent.name), line


def run_audit(
    program: Program,
    launch: LaunchConfig,
    agent: Starter,
    *,
    directory: Path,
    timeout_s: float,
    every: int,
    suppressions: Sequence[Suppression],
    on_progress: Callable[[list[Position]], None],
) -> tuple[Audit, InterruptedRunError | None]:
    """Run ``program`` on the ranks of ``launch``. Return what was found, and the error of an interruption.

    ``agent`` starts the ranks. A program hangs if it has done nothing for ``timeout_s`` seconds. One of every ``every``
    steps is watched. ``on_progress`` gets the positions of the ranks about five times a second.

    Raises ``SetupError`` if the ranks did not start.
    """
    findings = agent.scratch / "findings"
    findings.mkdir()
    ends: list[Hang | Crash] = []

    def note_end(end: Hang | Crash, _spec: AuditSpec) -> None:
        ends.append(end)

    interrupted: InterruptedRunError | None = None
    try:
        supervise(
            AuditSpec(
                program=program,
                findings=str(findings),
                directory=str(directory),
                every=every,
                timeout_s=timeout_s,
            ),
            launch,
            agent,
            count=1,
            timeout_s=timeout_s,
            on_end=note_end,
            on_progress=on_progress,
        )
    except InterruptedRunError as error:
        interrupted = error
    ranks = read_findings(findings)
    hang = next((each for each in ends if isinstance(each, Hang)), None)
    crash = next((each for each in ends if isinstance(each, Crash)), None)
    audit = join_ranks(
        program.text,
        launch.nproc,
        ranks,
        suppressions,
        hang=describe_hang(timeout_s, hang) if hang else "",
        failure=_describe_crash(crash, ranks) if crash else describe_failure(ranks) or str(interrupted or ""),
    )
    return audit, interrupted


def describe_hang(timeout_s: float, hang: Hang | None = None) -> str:
    """Return the message about a program that hung, with the call of the rank in ``hang`` if it is known."""
    call = f"; rank {hang.rank} is in {hang.call}" if hang is not None and hang.call else ""
    return f"The program hung: no rank did anything for {timeout_s:.3g} s{call}"


def _describe_crash(crash: Crash, ranks: Sequence[RankFindings]) -> str:
    """Return why the program ended. A rank that ended without its last findings was ended by a signal or a library."""
    has_end = any(each.rank == crash.rank and each.end is not None for each in ranks)
    return (describe_failure(ranks) if has_end else "") or crash.message.strip()


def describe_failure(ranks: Sequence[RankFindings]) -> str:
    """Return how the program failed by itself on a rank; empty if it did not fail on any rank."""
    failed = [(each.end, each.rank) for each in ranks if each.end is not None and each.end.exit_code]
    if not failed:
        return ""
    # The end of a rank makes other ranks fail, so the first end is the reason.
    end, rank = min(failed, key=lambda each: each[0].ended_at)
    where = f" at {end.line.place}" if end.line else ""
    how = f": {masked(end.error)}{where}" if end.error else ""
    return f"The program ended with exit code {end.exit_code} on rank {rank}{how}"
