"""Notes and warnings about the registration of memory."""

from __future__ import annotations

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.warnings import run_warnings
from tests.support.synthetic_runs import run, samples


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
