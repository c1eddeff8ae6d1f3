"""The proof on two real ranks: of every planted defect the probes see what they are for, and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from nccl_bench.catalog.probes import DETECTOR
from nccl_bench.errors import ExitCode
from nccl_bench.plan.verification import ArmProbe
from nccl_bench.ranks.progress import Position
from nccl_bench.report.verification import verification_text
from nccl_bench.verify.judgement import ProbeStatus, Verification
from tests.support import defective_communicators
from tests.support.command import Sandbox

pytestmark = pytest.mark.timeout(300)

# Four times what the longest of these probes takes here.
TIMEOUT_S = 16.0
# What each probe says of each mutant; None where it has nothing to say. What is not here is not tried, to save time:
# `many` may or may not see a race, and the others have nothing to do with the defect.
SEEN: Mapping[str, Mapping[str, str | None]] = {
    "forgets-the-fork": {
        # Not on the default stream, which on the CPU is never behind its caller.
        "producer": r"(side|nested) stream.*, rank \d: the collective did not wait for the write of its input: ",
        "consumer": None,
        "state": None,
    },
    "forgets-the-join": {
        "producer": None,
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
        "producer": r"default stream, all_gather with sizes 1K, rank 0: the collective is wrong, whatever its order: "
        r"85 of 255 elements are wrong; element 170 is -1 and has to be 114$",
    },
    "writes-when-disabled": {
        "state": r"default stream, all_gather 1K, rank 0: a disabled call changed its output$",
    },
    "silent-when-disabled": {
        "state": r"default stream, all_reduce 1K, rank 0: inside change_state\(False\) the communicator is on$",
    },
    "stays-on-after-a-capture": {
        "state": r"default stream, all_reduce 1K, rank 0: after an exception in graph_capture\(\) "
        r"the communicator is on$",
    },
    "captures-unordered": {
        # Outside of graph_capture() nothing is wrong, and there each place begins.
        "producer": r"side stream, all_reduce 1K, within graph_capture\(\), rank \d: the collective did not wait for ",
        "consumer": r"default stream, all_reduce 1K, within graph_capture\(\), rank \d: a copy of the output did not ",
    },
    "routes-to-torch": {
        "state": r"default stream, all_reduce 1K, rank 0: inside graph_capture\(\) it is carried by torch, and the "
        r"table says communicator$",
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
        "async": r"(side|nested) stream.*, all_gather \S+, rank \d: it did not wait for what its stream waits for: ",
    },
    "gathers-unjoined": {
        "async": r".* stream.*, all_gather \S+, rank \d: joined, it is wrong: \d+ of \d+ elements are wrong"
    },
    "skips-operations": {
        "many": r".* stream.*, (first|second) communicator, rank 0: 1 of its operations had a wrong result$",
    },
    "keeps-its-warm-up-stream": {
        "lifetime": r"cycle 10, rank 0: construction left 1 of its streams behind, and the communicator has 0: ",
    },
    "leaves-a-thread-and-a-file": {
        "lifetime": r"threads, rank 0: \d+ before 10 cycles and \d+ after, \d+ after 10 more$",
    },
    "opens-a-file-once": {"lifetime": None},
    "stream-free": {"async": None, "lifetime": None},
    DETECTOR: {"producer": r"(side|nested) stream", "consumer": r".* stream"},
    # Last, for what breaks costs a launch if anything comes behind it.
    "is-killed-at-its-end": {"async": r"rank 1 on \S+ was killed by SIGKILL"},
}
CELLS = [ArmProbe(arm=arm, probe=probe) for arm, probes in SEEN.items() for probe in probes]


@dataclass(frozen=True, kw_only=True)
class Proven:
    """A proof, the processes that it took, and what it left."""

    proof: Verification
    pids: set[int]
    left: list[Path]


def prove(cells: Sequence[ArmProbe], temporary: Path) -> Proven:
    pids: set[int] = set()

    def look(positions: list[Position]) -> None:
        pids.update(position.pid for position in positions)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setattr(tempfile, "tempdir", str(temporary))
        proof = defective_communicators.prove("cpu", cells, timeout_s=TIMEOUT_S, on_progress=look)
    return Proven(proof=proof, pids=pids, left=list(temporary.iterdir()))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    return Sandbox(tmp_path_factory.mktemp("command"))


@pytest.fixture(scope="module")
def command(place: Sandbox) -> Iterator[subprocess.Popen[str]]:
    """The real command, under way."""
    process = place.start(
        *("-m", "nccl_bench", "verify", "--arms", "stream-free", "--probes", "consumer", "--out", "proof.json")
    )
    yield process
    # Where the test of it did not wait for its end.
    process.terminate()
    place.wait(process)


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory, command: object) -> Proven:
    """The proof of everything planted; ``command`` goes on beside its first probes, and while one of them hangs."""
    return prove(CELLS, tmp_path_factory.mktemp("temporary"))


@pytest.mark.parametrize("arm", SEEN)
def test_of_every_mutant_the_probes_see_what_they_are_for_and_nothing_else(arm: str, proven: Proven) -> None:
    assert defective_communicators.mismatches(proven.proof, {arm: SEEN[arm]}) == {}


@pytest.mark.parametrize(
    ("arm", "probe", "failed", "trials"),
    [
        # Each of the two communicators does 300 operations at each of four places, the 500th and the 1000th excepted.
        ("skips-operations", "many", 4, 8),
        # The threads and the files, of three things that are counted before and after, and twice ten cycles and one.
        ("leaves-a-thread-and-a-file", "lifetime", 2, 24),
        # The same number: it was looked at once more.
        ("opens-a-file-once", "lifetime", 0, 24),
        # Small messages at four places, while the other rank is the late one.
        ("blocks-the-caller-once-in-a-while", "async", 4, 16),
        # Never outside of graph_capture(), and as little where the default stream runs inline.
        ("captures-unordered", "producer", 36, 96),
        ("captures-unordered", "consumer", 48, 96),
    ],
)
def test_every_trial_that_has_to_fail_does(arm: str, probe: str, failed: int, trials: int, proven: Proven) -> None:
    (finding,) = (j.finding for j in proven.proof.judgements if (j.arm, j.probe) == (arm, probe))
    assert finding is not None
    assert (finding.failed, finding.trials) == (failed, trials)


def test_every_mutant_is_tried_and_caught() -> None:
    # The one that forgets both is the detector once more, and for what only GPUs have; the other one is none.
    caught = {arm for arm, probes in SEEN.items() if any(probes.values())} - {DETECTOR}
    assert set(defective_communicators.MUTANTS) - caught == {"forgets-both", "opens-a-file-once"}


def test_only_what_broke_is_said_to_have_broken_and_the_rest_went_on(proven: Proven) -> None:
    judgements = proven.proof.judgements
    assert [ArmProbe(arm=judgement.arm, probe=judgement.probe) for judgement in judgements] == CELLS
    broken = {judgement.arm for judgement in judgements if judgement.finding and judgement.finding.broken}
    assert broken == {"hangs", "is-killed-at-its-end"}
    assert {judgement.status for judgement in judgements} == {ProbeStatus.PASS, ProbeStatus.FAIL, ProbeStatus.CAUGHT}
    assert proven.proof.exit_code is ExitCode.RACE


def test_a_proof_leaves_neither_process_nor_file(proven: Proven) -> None:
    # Two ranks in each of two launches: nothing comes behind the second that broke.
    assert len(proven.pids) == 4
    assert not [pid for pid in proven.pids if running(pid)]
    assert proven.left == []


def running(pid: int) -> bool:
    """Whether the process still runs a worker; a zombie has no command line."""
    path = Path(f"/proc/{pid}/cmdline")
    return path.exists() and defective_communicators.WORKER.encode() in path.read_bytes()


def test_a_detector_that_is_wrong_but_ordered_is_blind_and_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(defective_communicators.BLIND, "1")
    cells = [
        ArmProbe(arm="stream-free", probe="consumer"),
        ArmProbe(arm=DETECTOR, probe="producer"),
        ArmProbe(arm=DETECTOR, probe="consumer"),
    ]
    proof = prove(cells, tmp_path).proof
    _, *of_detector = (judgement.finding for judgement in proof.judgements)
    assert [(finding.failed, finding.raced) for finding in of_detector if finding] == [(16, 0)] * 2
    assert [judgement.status for judgement in proof.judgements] == [
        ProbeStatus.UNVERIFIED,
        ProbeStatus.BLIND,
        ProbeStatus.BLIND,
    ]
    assert proof.exit_code is ExitCode.BLIND_DETECTOR
    text = verification_text(proof, 80, styled=False)
    assert re.search(r"^stream-free +\?$", text, re.MULTILINE)
    assert "BLIND: dedicated-stream-unordered" in text


def test_the_command_prints_the_table_and_writes_the_json(place: Sandbox, command: subprocess.Popen[str]) -> None:
    ended = place.wait(command)
    assert (ended.code, ended.stderr) == (0, "")
    assert re.search(r"^stream-free +pass$", ended.stdout, re.MULTILINE)
    found = json.loads((place.cwd / "proof.json").read_text(encoding="utf-8"))
    assert (found["exit_code"], found["blind"], found["world_size"], found["device"]) == (0, False, 2, "cpu")
    assert [(cell["arm"], cell["probe"], cell["status"]) for cell in found["cells"]] == [
        ("stream-free", "consumer", "pass"),
        (DETECTOR, "producer", "caught"),
        (DETECTOR, "consumer", "caught"),
    ]
    assert [path.name for path in place.cwd.iterdir()] == ["proof.json"]
    place.assert_nothing_is_left()
