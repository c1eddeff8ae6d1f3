"""The verification on two real ranks: each probe catches the defects that it is for, and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import nccl_bench
from nccl_bench.catalog.probes import DETECTOR
from nccl_bench.errors import ExitCode
from nccl_bench.plan.verification import ArmProbe
from nccl_bench.ranks.progress import Position
from nccl_bench.verify.judgement import ProbeStatus, Verification
from tests.support.command import Sandbox, wait_until
from tests.support.defective_communicators import DEFECTS
from tests.support.verified_defects import WORKER, mismatches, verify_defects

pytestmark = pytest.mark.timeout(300)

# About four times the longest of these probes on two cores.
TIMEOUT_S = 10.0
# The beginning of the first failure's detail by defect and probe, None where no trial may fail. Other pairs are left
# out to save time: `many` may or may not notice a race, and the other probes have nothing to do with the defect.
EXPECTED: Mapping[str, Mapping[str, str | None]] = {
    "forgets-the-fork": {
        # The default stream of the CPU is the host, so what is queued for the private stream follows it.
        "order": r"(side|nested) stream.*, rank 0: nothing orders the collective after the write of its input: no fork "
        r"in \d+ of \d+ calls \(defective_communicators.py:\d+ in \w+\)$",
        # Not on the default stream: on the CPU it runs inline, so its work is never late.
        "producer": r"(side|nested) stream.*, rank \d: the collective did not wait for the write of its input: ",
        "consumer": None,
        "state": None,
    },
    "forgets-the-join": {
        "producer": None,
        "consumer": r".* stream.*, rank \d: a copy of the output did not wait for the collective: ",
    },
    "forgets-the-join-once-in-a-hundred-calls": {
        "order": r".* stream.*, rank 0: nothing orders a copy of the output after the collective: no join in 1 of "
        r"\d+ calls \(defective_communicators.py:\d+ in \w+\)$",
    },
    "forgets-the-join-slowly": {
        "consumer": r".* stream.*, rank \d: a copy of the output did not wait for the collective: ",
    },
    "caches-the-stream": {
        "producer": r"(side|nested) stream.*, rank \d: the collective did not wait for the write of its input: ",
    },
    "uses-the-previous-stream": {
        "producer": r"(side|nested) stream.*, rank \d: the collective did not wait for the write of its input: ",
    },
    "leaves-its-state-open": {
        "state": r"default stream, all_reduce 1K, rank 0: after an exception in change_state\(True\) within "
        r"change_state\(False\) the communicator is on$",
    },
    "hangs": {"async": rf"rank \d on \S+ hung in async default stream, all_gather 1K for {TIMEOUT_S:g} s$"},
    "drops-the-sizes": {
        "producer": r"default stream, all_gather with sizes 1K, rank 0: the result is wrong even without a race: "
        r"85 of 255 elements are wrong; element 170 is -1 and must be 114$",
    },
    "writes-when-disabled": {
        "state": r"default stream, all_gather 1K, rank 0: a call of the disabled communicator changed the output$",
    },
    "silent-when-disabled": {
        "state": r"default stream, all_reduce 1K, rank 0: inside change_state\(False\) the communicator is on$",
    },
    "stays-on-after-a-capture": {
        "state": r"default stream, all_reduce 1K, rank 0: after an exception in graph_capture\(\) "
        r"the communicator is on$",
    },
    "captures-unordered": {
        "order": r"default stream, all_reduce 1K, within graph_capture\(\), rank 0: nothing orders a copy ",
        # Outside of graph_capture() nothing is wrong, and each trial starts there.
        "producer": r"side stream, all_reduce 1K, within graph_capture\(\), rank \d: the collective did not wait for ",
        "consumer": r"default stream, all_reduce 1K, within graph_capture\(\), rank \d: a copy of the output did not ",
    },
    "routes-to-torch": {
        "state": r"default stream, all_reduce 1K, rank 0: inside graph_capture\(\) the call ran on torch, but the "
        r"table of routes says communicator$",
    },
    "gathers-on-the-callers-stream": {
        "async": r".* stream.*, all_gather \S+, rank \d: the caller's stream was blocked for \d+% of the gather's "
        r"time in the best of 3 attempts$",
    },
    "blocks-the-caller-once-in-a-while": {
        "async": r".* stream.*, all_gather 1K, rank 0: the caller's stream was blocked for \d+% of the gather's "
        r"time in the best of 3 attempts$",
    },
    "gathers-unforked": {
        "async": r"(side|nested) stream.*, all_gather \S+, rank \d: the gather did not wait for the write of "
        "its input: ",
    },
    "gathers-unjoined": {
        "async": r".* stream.*, all_gather \S+, rank \d: after the join, the result is wrong: "
        r"\d+ of \d+ elements are wrong"
    },
    "skips-operations": {
        "many": r".* stream.*, (first|second) communicator, rank 0: 1 of its \d+ calls had a wrong result; the first "
        r"of them is call \d+$",
    },
    "keeps-its-warm-up-stream": {
        "lifetime": r"second communicator, rank 0: after construction, streams in use: 1, allowed: 0\. ",
    },
    "leaves-a-thread-and-a-file": {
        "lifetime": r"threads, rank 0: \d+ after one communicator, \d+ after two, \d+ after three: "
        r"1 for each communicator$",
    },
    "opens-a-file-once": {"lifetime": None},
    "stream-free": {"order": None, "consumer": None, "async": None, "lifetime": None},
    DETECTOR: {"order": r".* stream", "producer": r"(side|nested) stream", "consumer": r".* stream"},
    # Last, because a probe that breaks costs a new launch for the probes after it.
    "is-killed-at-its-end": {"async": r"rank 1 on \S+ was killed by SIGKILL"},
}
CELLS = [ArmProbe(arm=arm, probe=probe) for arm, probes in EXPECTED.items() for probe in probes]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A verification and the traces of its processes."""

    verification: Verification
    pids: set[int]  # every process that reported a position
    left: list[Path]  # files left in the temporary directory


def run_probes(cells: Sequence[ArmProbe], temporary: Path) -> Outcome:
    pids: set[int] = set()

    def look(positions: list[Position]) -> None:
        pids.update(position.pid for position in positions)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setattr(tempfile, "tempdir", str(temporary))
        verification = verify_defects("cpu", cells, timeout_s=TIMEOUT_S, on_progress=look)
    return Outcome(verification=verification, pids=pids, left=list(temporary.iterdir()))


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Verify every defect."""
    return run_probes(CELLS, tmp_path_factory.mktemp("temporary"))


@pytest.mark.parametrize("arm", EXPECTED)
def test_probes_catch_the_defects_they_are_for_and_nothing_else(arm: str, outcome: Outcome) -> None:
    assert mismatches(outcome.verification, {arm: EXPECTED[arm]}) == {}


@pytest.mark.parametrize(
    ("arm", "probe", "failed", "trials"),
    [
        # Of 144 calls, the 100th.
        ("forgets-the-join-once-in-a-hundred-calls", "order", 1, 48),
        # Two communicators do 80 operations at each of four places; the 150th and the 300th are skipped.
        ("skips-operations", "many", 4, 8),
        # Threads and files, of three things counted after each of three communicators.
        ("leaves-a-thread-and-a-file", "lifetime", 2, 6),
        # The third communicator left nothing more.
        ("opens-a-file-once", "lifetime", 0, 6),
        # Small messages at four places, each while the other rank is late.
        ("blocks-the-caller-once-in-a-while", "async", 4, 16),
        # Not outside of graph_capture(), and not where the default stream runs inline.
        ("captures-unordered", "producer", 36, 96),
        ("captures-unordered", "consumer", 48, 96),
    ],
)
def test_every_trial_that_must_fail_fails(arm: str, probe: str, failed: int, trials: int, outcome: Outcome) -> None:
    (finding,) = (j.finding for j in outcome.verification.judgements if (j.arm, j.probe) == (arm, probe))
    assert finding is not None
    assert (finding.failed, finding.trials) == (failed, trials)


def test_every_defect_is_tried_and_caught() -> None:
    # "forgets-both" is like the detector, and used on GPUs only; "opens-a-file-once" is not a defect.
    caught = {arm for arm, probes in EXPECTED.items() if any(probes.values())} - {DETECTOR}
    assert set(DEFECTS) - caught == {"forgets-both", "opens-a-file-once"}


def test_only_the_arms_that_broke_are_reported_as_broken_and_the_rest_continued(outcome: Outcome) -> None:
    judgements = outcome.verification.judgements
    assert [ArmProbe(arm=judgement.arm, probe=judgement.probe) for judgement in judgements] == CELLS
    broken = {judgement.arm for judgement in judgements if judgement.finding and judgement.finding.broken}
    assert broken == {"hangs", "is-killed-at-its-end"}
    assert {judgement.status for judgement in judgements} == {ProbeStatus.PASS, ProbeStatus.FAIL, ProbeStatus.CAUGHT}
    assert outcome.verification.exit_code is ExitCode.RACE


def test_a_verification_leaves_neither_process_nor_file(outcome: Outcome) -> None:
    # Two ranks in each of two launches: no probe follows the second break.
    assert len(outcome.pids) == 4
    assert not [pid for pid in outcome.pids if running(pid)]
    assert outcome.left == []


def running(pid: int) -> bool:
    """Return whether the process still runs a worker. A zombie has no command line."""
    path = Path(f"/proc/{pid}/cmdline")
    return path.exists() and WORKER.encode() in path.read_bytes()


def test_a_result_that_is_wrong_in_every_order_is_no_race(outcome: Outcome) -> None:
    (finding,) = (j.finding for j in outcome.verification.judgements if j.arm == "drops-the-sizes")
    assert finding is not None
    assert (finding.failed, finding.raced) == (16, 0)


def test_killed_twice_and_resumed_a_verification_keeps_every_finding_and_ends_with_the_whole_table(
    tmp_path: Path,
) -> None:
    sandbox = Sandbox(tmp_path)
    findings = sandbox.cwd / "there" / "findings.jsonl"
    example = Path(nccl_bench.__file__).parent / "guide" / "my_communicator.py"
    # Each user arm has a launch of its own, and the detector is last.
    arms = ("--arm", f"first={example}:MyCommunicator", "--arm", f"second={example}:MyCommunicator")

    def lines() -> list[str]:
        written = findings.read_text(encoding="utf-8").splitlines() if findings.exists() else []
        return [line for line in written if '"probe"' in line]

    def start(*arguments: str, new: int) -> subprocess.Popen[str]:
        """Start the command, and wait until it has recorded ``new`` more findings."""
        goal = len(lines()) + new
        process = sandbox.start("-m", "nccl_bench", "verify", *arguments)
        wait_until(lambda: len(lines()) >= goal, process)
        return process

    process = start(*arms, "--probes", "consumer", "--out", "there", new=1)
    process.terminate()
    interrupted = sandbox.wait(process)
    ran = len(lines())
    assert interrupted.code == ExitCode.INTERRUPTED
    assert f"INCOMPLETE: {ran} of 4 probes ran" in interrupted.stdout
    assert re.search(r"^first +\?$", interrupted.stdout, re.MULTILINE)
    assert f"interrupted by SIGTERM; {ran} of 4 probes ran, and nothing else is verified" in interrupted.stderr
    sandbox.assert_nothing_is_left()

    process = start("--resume", "there", "--allow-recorded-code", new=1)
    process.kill()
    process.communicate()
    wait_until_gone(sandbox)
    report = sandbox.nccl_bench("report", "there", "--format", "json")
    document = json.loads(report.stdout)
    assert (document["status"], document["ran"], document["planned"]) == ("running", len(lines()), 4)
    assert len(lines()) > ran

    resumed = sandbox.nccl_bench("verify", "--resume", "there", "--allow-recorded-code")
    assert (resumed.code, resumed.stderr) == (0, f"nccl-bench: recorded in {sandbox.cwd / 'there'}\n")
    for arm, cells in (("first", "pass"), ("second", "pass"), (DETECTOR, "caught +caught")):
        assert re.search(rf"^{arm} +{cells}$", resumed.stdout, re.MULTILINE)
    assert "INCOMPLETE" not in resumed.stdout
    recorded = json.loads((sandbox.cwd / "there" / "verification.json").read_text(encoding="utf-8"))
    assert tuple(recorded[key] for key in ("exit_code", "blind", "world_size", "device")) == (0, False, 2, "cpu")
    assert [(cell["arm"], cell["probe"], cell["status"]) for cell in recorded["cells"]] == [
        ("first", "consumer", "pass"),
        ("second", "consumer", "pass"),
        (DETECTOR, "producer", "caught"),
        (DETECTOR, "consumer", "caught"),
    ]
    assert [path.name for path in sandbox.cwd.iterdir()] == ["there"]
    assert len({(line["arm"], line["probe"]) for line in map(json.loads, lines())}) == len(lines()) == 4
    assert sandbox.nccl_bench("report", "there").stdout == resumed.stdout
    sandbox.assert_nothing_is_left()


def wait_until_gone(sandbox: Sandbox) -> None:
    """Wait for the end of the ranks of a command that was killed."""
    give_up = time.monotonic() + 10
    while sandbox.processes():
        assert time.monotonic() < give_up, sandbox.processes()
        time.sleep(0.05)
