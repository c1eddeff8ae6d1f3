"""Whatever dies or fails, a run loses nothing but the case in hand, and nothing is left of it.

``python -m tests.experiments.faults`` does the same more often, and prints what each fault costs.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nccl_bench.records.run import FILES
from tests.support.fault_table import LAUNCH_FAULTS, RUNS, inject

# Everything that a killed command started must end within this time.
END_S = 3.0
# What the user reads about each fault.
MESSAGES = {
    "rank 0 killed": "rank 0 on .* was killed by SIGKILL",
    "rank 1 killed": "rank 1 on .* was killed by SIGKILL",
    "torch's launcher killed": "was killed by SIGKILL",
    "agent killed": "was killed by SIGKILL",
    "store killed, then rank 1": "rank 1 on .* was killed by SIGKILL",
    "rank 1 stopped": "^HANG: .*rank 1 on .*: stopped",
    "rank 1 killed in a relaunch's set-up": "rank 1 on .* was killed by SIGKILL",
    "rank 1 never joins a relaunch": "^HANG: set-up, rank 1 on .*: stopped.* in connect after 4 s",
    "allocation fails": "rank 1 on .*: you tried to allocate",
    "rank 1 calls with another count": "collective mismatch",
    "command gets SIGINT": "interrupted by SIGINT; what was measured before is kept",
    "command gets SIGTERM": "interrupted by SIGTERM; what was measured before is kept",
    "command gets SIGHUP": "interrupted by SIGHUP; what was measured before is kept",
    "command killed": "^$",
    "disk full": "cannot be written: No space left on device; free space on this disk",
    "run directory removed": "was removed or renamed",
    "rank 1 killed in the first set-up": "rank 1 on .* was killed by SIGKILL",
    "rank 1 never joins the first launch": r"rank 1 on .* did not finish its set-up \(connect\) within 4 s",
}


STATUSES = {
    LAUNCH_FAULTS: "interrupted",
    "command gets SIGTERM": "interrupted",
    "command gets SIGHUP": "interrupted",
    "command killed": "running",
    "disk full": "failed",
    # Nothing is left of these.
    "run directory removed": None,
    "rank 1 never joins the first launch": "failed",
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("run_of", RUNS)
def test_a_fault_costs_the_case_in_hand_and_leaves_nothing(run_of: str, tmp_path: Path) -> None:
    result = inject(run_of, tmp_path / "place")
    for injection in result.injections:
        assert re.search(MESSAGES[injection.fault], injection.message, re.DOTALL), injection
        assert (injection.lost, injection.processes_left, injection.scratch_left) == (0, 0, 0), injection
    assert "Traceback" not in result.printed + result.errors
    recorded, status = result.recorded, STATUSES[run_of]
    assert (recorded and recorded.meta["status"]) == status
    if run_of == "command killed":
        assert result.injections[-1].seconds < END_S
    elif run_of == "rank 1 never joins the first launch":
        assert result.printed == ""
        assert result.errors.count("\n") == 1
    else:
        assert "eager latency" in result.printed
    if status == "interrupted":
        assert "INTERRUPTED" in result.printed
    if status in ("interrupted", "failed"):
        assert recorded is not None
        assert recorded.meta["finished"] is not None
        assert recorded.warnings == ()
        assert result.files == tuple(sorted(FILES))
