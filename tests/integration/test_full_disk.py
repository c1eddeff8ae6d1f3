"""A run whose memory and whose disk run out, in real processes on a small disk."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from nccl_bench.catalog.timings import Timing
from nccl_bench.records.run import FILES, Run
from nccl_bench.records.schema import Crash, Samples
from tests.support.command import Sandbox
from tests.support.small_disk import FILLER, small_disk

DISK_BYTES = 4 * 1024**2
RUN = ("run", "--arms", "stream-free,torch", "--rounds", "1", "--max-rounds", "1", "-w", "1", "-n", "4")
MEASURED = ("stream-free", "torch", "stream-free:twin")
TIMINGS = (Timing.EAGER, Timing.GATED, Timing.ENQUEUE)


@pytest.mark.timeout(120)
def test_memory_costs_a_case_and_a_full_disk_ends_the_run_with_its_tables_and_its_reason(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", DISK_BYTES) as disk:
        # The record and all temporary files, also those of the ranks, are on this disk.
        sandbox = Sandbox(disk)
        faults: list[dict[str, object]] = [
            {"rank": 1, "arm": "torch", "size_bytes": 2048, "act": "allocate"},
            {"rank": 0, "arm": "torch", "size_bytes": 8192, "act": "fill", "directory": str(disk)},
        ]
        ended = sandbox.nccl_bench(*RUN, "--sizes", "1K:64K:x2", "--out", "there", env=sandbox.environment(faults))
        sandbox.assert_nothing_is_left()
        recorded = Run.load(sandbox.cwd / "there")
        files = sorted(path.name for path in (sandbox.cwd / "there").iterdir())
        assert (disk / FILLER).stat().st_size > 0
    assert ended.code == 3
    samples = [line for line in recorded.lines if isinstance(line, Samples)]
    sizes = {line.case.size_bytes for line in samples}
    assert sizes >= {1024, 4096}
    assert 65536 not in sizes
    for size_bytes in (1024, 4096):
        done = {(line.arm, line.timing) for line in samples if line.case.size_bytes == size_bytes}
        assert done == {(arm, timing) for arm in MEASURED for timing in TIMINGS}
    (crash,) = (line for line in recorded.lines if isinstance(line, Crash))
    assert (crash.case and crash.case.size_bytes, crash.rank) == (2048, 1)
    assert "you tried to allocate" in crash.message
    assert (recorded.meta["status"], recorded.warnings) == ("failed", ())
    assert recorded.meta["finished"] is not None
    assert files == sorted(FILES)

    assert "eager latency" in ended.stdout
    assert "FAILED" in ended.stdout
    assert f"rank 1 on {socket.gethostname()} ended" in " ".join(ended.stdout.split())
    *rest, reason = ended.stderr.splitlines()
    assert all(re.match("nccl-bench: recorded in ", line) for line in rest)
    assert reason.startswith(f"nccl-bench: {sandbox.cwd / 'there'}/")
    assert "cannot be written: No space left on device; free space on this disk" in reason
    assert "Traceback" not in ended.stdout + ended.stderr
