"""The recorded differences between the two sides of a comparison."""

from __future__ import annotations

from typing import Any

from nccl_bench.analysis.side_names import difference_text, likeness_text


def side(**changes: Any) -> dict[str, Any]:
    return {"version": "0.1.0", "schema": 5, "config": {}, **changes}


def test_a_difference_names_what_was_recorded_to_differ() -> None:
    def text(before: dict[str, Any], after: dict[str, Any], *lines: str, libraries: tuple[str, ...] = ()) -> str:
        return difference_text([("before", before), ("after", after)], lines, libraries)

    same = side()
    assert text(same, same) == text(same, side(schema=6)) == ""
    assert text(same, side(version="0.2.0"), "driver: 1 (before); 2 (after)", libraries=("The libnccl differs",)) == (
        "recorded differences: driver and the library"
    )
    tree = side(config={"user_arms": [{"name": "mine", "tree": "new"}]})
    assert text(same, tree) == "recorded differences: the user arms"
    # A summary records nothing, so nothing is said.
    assert text(same, {"config": {}}) == ""


def test_runs_are_called_alike_unless_the_tool_itself_differs() -> None:
    def text(before: dict[str, Any], after: dict[str, Any], difference: str = "") -> str:
        return likeness_text([("before", before), ("after", after)], difference)

    same = side()
    assert text(same, same) == "recorded alike"
    assert text(same, side(schema=6)) == text(same, side(version="0.2.0")) == ""
    assert text(same, same, "recorded differences: driver") == text(same, {"config": {}}) == ""
