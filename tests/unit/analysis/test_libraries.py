"""Notes on the libnccl of each arm, within one run and between two."""

from __future__ import annotations

from typing import Any

import pytest

from nccl_bench.analysis.comparable import ComparableRun
from nccl_bench.analysis.libraries import callers_of, libraries_of, mixed_libraries, notes_on_arms, notes_on_sides
from nccl_bench.analysis.one_run import compare_arms
from nccl_bench.config.limits import limits_of
from nccl_bench.records.importers.nccl_tests import ARM
from tests.support.synthetic_runs import meta, run, samples

OLD = {"version": "2.27.7", "path": "/old/libnccl.so.2", "sha256": "1"}
NEW = {"version": "2.28.9", "path": "/new/libnccl.so.2", "sha256": "2"}
COPY = {**NEW, "path": "/copy/libnccl.so.2"}


def recorded(user_arms: tuple[dict[str, Any], ...] = (), **libraries: dict[str, str]) -> dict[str, Any]:
    of_arms = [{"arm": arm.replace("_", "-"), **library} for arm, library in libraries.items()]
    config = {"arms": [library["arm"] for library in of_arms], "user_arms": list(user_arms)}
    return meta(**config) | {"worker": {"transport": {"name": "nccl", **NEW}, "libraries": of_arms}}


def test_an_arm_with_another_library_than_the_baseline_has_a_note() -> None:
    new = {"name": "new", "target": "stream-free", "library": NEW["path"]}
    torch = {"name": "new-torch", "target": "torch", "library": NEW["path"]}
    of = recorded((new, torch), stream_free=OLD, dedicated_stream=OLD, new=NEW, new_torch=NEW)
    assert list(notes_on_arms(of, ["dedicated-stream", "new", "new-torch"], "stream-free")) == [
        "new, new-torch: NCCL 2.28.9 at /new/libnccl.so.2, against NCCL 2.27.7 at /old/libnccl.so.2 in stream-free. "
        "Only the libnccl differs between new and stream-free."
    ]
    assert list(notes_on_arms(of, ["dedicated-stream"], "stream-free")) == []


def test_arms_with_copies_of_one_file_have_a_note_that_says_so() -> None:
    of = recorded((), old=NEW, new=COPY)
    assert list(notes_on_arms(of, ["new"], "old")) == [
        "new and old call copies of the same file, NCCL 2.28.9: /copy/libnccl.so.2 and /new/libnccl.so.2."
    ]


@pytest.mark.parametrize("change", [{"variables": {"NCCL_ALGO": "Ring"}}, {"target": "torch"}, {"transport": "nccl"}])
def test_an_arm_that_differs_in_more_than_its_library_is_not_said_to_differ_in_it_alone(change: dict[str, Any]) -> None:
    arms = [{"name": name, "target": "stream-free", "library": f"/{name}.so"} for name in ("old", "new")]
    (note,) = notes_on_arms(recorded((arms[0], arms[1] | change), old=OLD, new=NEW), ["new"], "old")
    assert "Only the libnccl differs" not in note
    (note,) = notes_on_arms(recorded((arms[0], arms[1]), old=OLD, new=NEW), ["new"], "old")
    assert "Only the libnccl differs between new and old." in note


def sides(before: list[dict[str, Any]], after: list[dict[str, Any]], *, alone: bool = True) -> list[str]:
    pair = ComparableRun.of(run([samples("old"), samples("new")]), "r")
    comparisons = compare_arms(pair, limits_of({}, 0.05, "a test"), baseline="old", candidates=["new"])
    assert comparisons
    named = [[(f"run {number}", each) for number, each in enumerate(side)] for side in (before, after)]
    return list(notes_on_sides(named[0], named[1], comparisons, alone=alone))


def test_two_sides_with_different_libraries_have_a_note() -> None:
    text = (
        "The libnccl differs: NCCL 2.28.9 at /new/libnccl.so.2 after, against NCCL 2.27.7 at /old/libnccl.so.2 before."
    )
    nothing_else = " Nothing else that was recorded of the machine and the settings differs."
    assert sides([recorded(old=OLD)], [recorded(new=NEW)]) == [text + nothing_else]
    assert sides([recorded(old=OLD)], [recorded(new=NEW)], alone=False) == [text]
    assert sides([recorded(old=NEW)], [recorded(new=COPY)]) == []
    assert sides([recorded(old=NEW)], [recorded(torch=OLD)]) == []


def test_runs_of_one_side_with_different_libraries_are_a_difference() -> None:
    named = [("before 1", recorded(torch=OLD, new=NEW)), ("before 2", recorded(torch=NEW, new=COPY))]
    assert list(mixed_libraries(named)) == [
        "libnccl of torch: NCCL 2.27.7 at /old/libnccl.so.2 (before 1); NCCL 2.28.9 at /new/libnccl.so.2 (before 2)"
    ]
    assert list(mixed_libraries(named[:1])) == []


def test_older_runs_and_imports_have_the_library_of_the_transport() -> None:
    older = meta(arms=["stream-free"]) | {"worker": {"transport": {"version": "2.28.9", "path": "/l.so"}}}
    assert libraries_of(older)["stream-free"].text == "NCCL 2.28.9 at /l.so"
    imported = meta(arms=[ARM], baseline=ARM) | {"worker": {"transport": {"name": "nccl", "version": "2.28.9"}}}
    assert libraries_of(imported)[ARM].text == "NCCL 2.28.9"
    rccl = imported | {"worker": {"transport": {"name": "rccl", "version": "2.28.9"}}}
    assert libraries_of(rccl)[ARM].text == "RCCL 2.28.9"
    assert list(mixed_libraries([("a", imported), ("b", rccl)])) == [
        f"library of {ARM}: NCCL 2.28.9 (a); RCCL 2.28.9 (b)"
    ]
    assert libraries_of(meta() | {"worker": {"transport": {"name": "gloo", "version": "2.13"}}}) == {}
    assert libraries_of(meta() | {"worker": None}) == {}


def test_two_copies_in_one_process_are_named_with_the_arms_that_call_them() -> None:
    of = recorded(stream_free=NEW, torch=OLD)
    assert callers_of(of, ["stream-free", "torch", "torch:twin"]) == (
        "/new/libnccl.so.2 is that of stream-free; /old/libnccl.so.2 is that of torch. So these arms differ in more "
        "than their streams."
    )
    assert callers_of(of, ["torch"]) == "/old/libnccl.so.2 is that of torch."
    assert callers_of(meta(), ["torch"]) == "It is not known which arm calls which copy."
