"""The verification over NCCL: every arm passes, and every defect is caught, also in graphs and in the allocator."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping

import pytest

from nccl_bench.catalog.arms import ARMS
from nccl_bench.catalog.extras import has_extra
from nccl_bench.catalog.probes import DETECTOR, PROBES
from nccl_bench.errors import ExitCode
from nccl_bench.plan.verification import ArmProbe
from tests.support.verified_defects import mismatches, verify_defects

pytestmark = pytest.mark.timeout(600)

# As in tests/integration/test_verify.py: the beginning of the first failure's detail by defect and probe, None where no
# trial may fail. How an impossible capture fails depends on the library, and each such failure costs a launch.
EXPECTED: Mapping[str, Mapping[str, str | None]] = {
    "forgets-the-fork": {
        "order": r".* stream.*: nothing orders the collective after the write of its input: no fork in ",
        "producer": r".* stream.*: the collective did not wait for the write of its input: ",
        "consumer": None,
    },
    "forgets-the-join": {
        "order": r".* stream.*: nothing orders a copy of the output after the collective: no join in ",
        "producer": None,
        "consumer": r".* stream.*: a copy of the output did not wait for the collective: ",
        "allocator": r".* stream.*: the input's memory was reused before the collective had read it: ",
        # Not `capture`: a graph that can be captured ends only when all of its nodes have ended.
    },
    "forgets-the-join-once-in-a-hundred-calls": {"order": r".* stream.*: nothing orders a copy .*: no join in 1 of "},
    "forgets-both": {
        "producer": r".* stream.*: the collective did not wait for the write of its input: ",
        "consumer": r".* stream.*: a copy of the output did not wait for the collective: ",
        "capture": r".",
    },
    "caches-the-stream": {
        "producer": r".*side stream, .*: the collective did not wait for the write of its input: ",
        "consumer": r".*side stream, .*: a copy of the output did not wait for the collective: ",
        "capture": r".",
    },
    "uses-the-previous-stream": {"producer": r".* stream.*: the collective did not wait for the write of its input: "},
    "leaves-its-state-open": {
        "consumer": None,
        "state": r".*: after an exception in change_state\(True\) within change_state\(False\) the communicator is on$",
        "capture": None,
    },
    "drops-the-sizes": {
        "producer": r".*with sizes.*: the result is wrong even without a race: ",
        "capture": r".*with sizes.*: replay 1: ",
    },
    "stays-on-after-a-capture": {
        "state": r".*: after an exception in graph_capture\(\) the communicator is on$",
        "capture": None,
    },
    "captures-unordered": {
        "order": r".*, within graph_capture\(\), .*: nothing orders ",
        "producer": r".*, within graph_capture\(\), .*: the collective did not wait for the write of its input: ",
        "consumer": r".*, within graph_capture\(\), .*: a copy of the output did not wait for the collective: ",
    },
    "routes-to-torch": {"state": r".*: inside graph_capture\(\) the call ran on torch, but the table of routes says "},
    "gathers-on-the-callers-stream": {"async": r".*: the caller's stream was blocked for \d+% of "},
    "blocks-the-caller-once-in-a-while": {
        "async": r".* 1K, rank 0: the caller's stream was blocked for \d+% of the gather's time in the best of 3 "
    },
    "gathers-unforked": {"async": r".*: the gather did not wait for the write of its input: "},
    "gathers-unjoined": {"async": r".*: after the join, the result is wrong: "},
    "skips-operations": {"capture": None, "many": r".*, rank 0: \d+ of its \d+ calls had a wrong result; "},
    "keeps-its-warm-up-stream": {"lifetime": r".*: after construction, streams in use: 1, "},
    "leaves-a-thread-and-a-file": {"lifetime": r"threads, rank 0: "},
    "stream-free": {"order": None, "allocator": None, "many": None, "lifetime": None},
    DETECTOR: {"order": r".", "producer": r".", "consumer": r"."},
}


def test_every_arm_passes_every_probe_and_the_detector_is_caught() -> None:
    command = [sys.executable, "-m", "nccl_bench", "verify", "--device", "cuda", "--nproc", "2", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=590, check=False)
    assert done.returncode == ExitCode.OK, done.stdout[-4000:] + done.stderr[-2000:]
    statuses = {(cell["arm"], cell["probe"]): cell["status"] for cell in json.loads(done.stdout)["cells"]}
    arms = {name for name, arm in ARMS.items() if arm.extra is None or has_extra(arm.extra)}
    assert set(statuses) == {(arm, probe) for arm in arms for probe in PROBES}
    assert {statuses[DETECTOR, name] for name, probe in PROBES.items() if probe.detects} == {"caught"}
    not_passed = {cell: status for cell, status in statuses.items() if cell[0] != DETECTOR and status != "pass"}
    without_gather = arms & {"torch", "torch-async", "nccl4py"}
    assert not_passed == {(arm, "async"): "not applicable" for arm in without_gather}


def test_probes_catch_the_defects_they_are_for_and_nothing_else() -> None:
    cells = [ArmProbe(arm=arm, probe=probe) for arm, probes in EXPECTED.items() for probe in probes]
    verification = verify_defects("cuda", cells, timeout_s=60)
    assert mismatches(verification, EXPECTED) == {}
    assert verification.exit_code is ExitCode.RACE
