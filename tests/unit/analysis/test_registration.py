"""Notes and warnings about the allocator of the buffers, and about their registration."""

from __future__ import annotations

from typing import Any

import pytest

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.registration import one_process
from nccl_bench.analysis.warnings import run_warnings
from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.catalog.timings import Timing
from nccl_bench.records.run import Run
from nccl_bench.records.schema import BuffersRegistered, Samples
from tests.support.synthetic_runs import case, run, samples


def reported(how: str, **registered: str) -> tuple[list[str], list[str]]:
    """Return the notes above the tables and the warnings about registration, of a run with these arms."""
    names = [name.replace("_", "-") for name in registered]
    made = run([samples(name) for name in names], baseline=names[0], arms=names, register=how)
    registrations = dict(zip(names, registered.values(), strict=True))
    made.meta["worker"] = {"registered": registrations | {f"{names[0]}:twin": registrations[names[0]]}}
    analysis = Analysis.of(made)
    return list(analysis.notes[1:]), [text for text in analysis.warnings if "registration" in text]


def test_a_note_lists_the_arms_with_registered_memory() -> None:
    assert reported("window", stream_free="registered", transport="registered", torch="absent", mine="absent") == (
        ["registered memory (window): stream-free, transport; the same memory without registration: torch, mine"],
        [],
    )
    assert reported("local", stream_free="registered") == (["registered memory (local): stream-free"], [])
    assert reported("local", torch="absent") == (
        ["registered memory (local): none; the same memory without registration: torch"],
        [],
    )


def test_a_warning_says_that_a_machine_has_no_windows() -> None:
    (line,), (warning,) = reported("window", stream_free="unavailable", transport="unavailable", torch="absent")
    assert (
        line == "registered memory (window): none; the same memory without registration: stream-free, transport, torch"
    )
    assert warning.startswith(
        "Window registration is unavailable on this machine: NCCL returned a null handle to stream-free, transport, "
        "so the times are for unregistered memory."
    )


def test_a_comparison_of_other_arms_has_no_such_warning() -> None:
    made = run([samples("torch")], baseline="torch", arms=["torch", "stream-free"], register="window")
    made.meta["worker"] = {"registered": {"stream-free": "unavailable", "torch": "absent"}}
    assert list(run_warnings(made, ["torch"], "torch")) == []


def test_a_run_without_registration_has_no_note_and_no_warning() -> None:
    made = run([samples()])
    made.meta["worker"] = {"registered": {}}
    assert Analysis.of(made).notes[1:] == ()
    assert not any("registration" in text for text in Analysis.of(made).warnings)


LARGE = case(16 * 1024**2, "all_gather")


def notes_of(lines: list[Samples], **worker: object) -> list[str]:
    made = run(lines, baseline="stream-free", arms=["stream-free", "torch"])
    made.meta["worker"] = worker
    return [note for note in Analysis.of(made).notes if "register" in note]


def test_a_note_says_for_each_arm_in_how_many_cases_nccl_had_the_buffers_registered() -> None:
    small = case(1024, "all_gather")
    states = {
        ("stream-free", Timing.EAGER): (small, "no"),
        ("stream-free", Timing.GATED): (LARGE, "no"),
        ("stream-free", Timing.GRAPH): (LARGE, "yes"),
        ("dedicated-stream", Timing.EAGER): (LARGE, "yes"),
        ("torch", Timing.GRAPH): (LARGE, "partly"),
        ("torch-async", Timing.EAGER): (LARGE, "unknown"),
        ("stream-free:twin", Timing.EAGER): (small, "yes"),
    }
    lines = [
        samples(arm, timing, case=of, registered=BuffersRegistered(state))
        for (arm, timing), (of, state) in states.items()
    ]
    assert notes_of(lines) == [
        "buffers that NCCL had registered: eagerly in 0 of 2 cases, in graphs in 1 of 1 case: stream-free",
        "buffers that NCCL had registered: eagerly in 1 of 1 case: dedicated-stream",
        "buffers that NCCL had registered: in graphs in 0 of 1 case, partly in graphs in 1 of 1 case: torch",
    ]


def test_with_one_rank_and_without_a_log_no_note_counts_cases() -> None:
    alone = [samples(world_size=1, registered=BuffersRegistered.NO)]
    assert not any("buffers that NCCL" in note for note in Analysis.of(run_of_one_rank(alone)).notes)
    assert notes_of([samples()]) == []
    unread = notes_of([samples(registered=BuffersRegistered.UNKNOWN)], log_absent="NCCL before 2.24")
    assert unread == ["whether NCCL had buffers registered is unknown: NCCL before 2.24"]


def run_of_one_rank(lines: list[Samples]) -> Run:
    made = run(lines)
    made.meta["launch"]["world_size"] = 1
    return made


@pytest.mark.parametrize(
    ("memory", "expandable", "note"),
    [
        ("torch", False, []),
        ("torch", True, ["buffers: expandable memory"]),
        ("expandable", True, ["buffers: expandable memory"]),
        ("nccl", False, ["buffers: nccl memory"]),
    ],
)
def test_a_note_names_an_allocator_other_than_torchs(memory: str, expandable: bool, note: list[str]) -> None:
    made = run([samples()], same_buffer=False, memory=memory)
    made.meta["worker"] = {"expandable_segments": expandable}
    assert [text for text in Analysis.of(made).notes if text.startswith("buffers:")] == note


def warned(collective: str = "all_gather", state: str = "no", size_bytes: int = 16 * 1024**2, ranks: int = 2) -> bool:
    line = samples(
        case=case(size_bytes, collective), world_size=ranks, registered=BuffersRegistered(state), timing=Timing.GRAPH
    )
    texts = [text for text in Analysis.of(run([line])).warnings if "did not have the buffers registered" in text]
    if texts:
        assert "stream-free graph" in texts[0]
        assert "--env NCCL_LEGACY_CUDA_REGISTER=1" in texts[0]
        assert "--register local" in texts[0]
        assert "--memory nccl" in texts[0]
    return bool(texts)


def test_a_warning_names_what_is_lost_and_the_settings_that_bring_it() -> None:
    assert warned()
    assert warned(state="partly")
    assert {name for name in COLLECTIVES if warned(name)} == {"all_gather", "all_to_all", "send_recv"}
    assert not warned(state="yes")
    assert not warned(state="unknown")
    assert not warned(size_bytes=8 * 1024**2)
    assert not warned(ranks=1)


def imported(processes: int | None, collective: str = "all_gather") -> tuple[str, dict[str, Any]]:
    meta = run([]).meta | {"launch": {"world_size": 2}}
    config = {"device": "cuda", "baseline": "nccl-tests", "collectives": [collective], "processes": processes}
    return "file.txt", {**meta, "config": config}


def test_a_comparison_says_that_ranks_of_one_process_need_no_registration() -> None:
    ours = ("run", dict(run([]).meta))
    (line,) = one_process([imported(1), ours])
    assert line.startswith("nccl-tests ran 2 ranks in one process (file.txt). There its buffers need no registration.")
    assert "one process for each GPU, and -t 1 -g 1" in line
    # A process for each rank; a file that an older version imported; a collective that gains nothing; no other tool.
    assert list(one_process([imported(2), ours])) == []
    assert list(one_process([imported(None), ours])) == []
    assert list(one_process([imported(1, "all_reduce"), ours])) == []
    assert list(one_process([imported(1), imported(1)])) == []
