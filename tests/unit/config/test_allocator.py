"""The variables that give torch expandable segments."""

from __future__ import annotations

import pytest

from nccl_bench.config.allocator import ALLOCATOR_VARIABLES, expandable_variables

OLD, NEW = ALLOCATOR_VARIABLES


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        (None, "expandable_segments:True"),
        ("", "expandable_segments:True"),
        ("max_split_size_mb:64", "max_split_size_mb:64,expandable_segments:True"),
        ("expandable_segments:False", "expandable_segments:True"),
        ("expandable_segments : False, max_split_size_mb:64", "max_split_size_mb:64,expandable_segments:True"),
        (
            "roundup_power2_divisions:[256:1,>:8],expandable_segments:True,garbage_collection_threshold:0.8",
            "roundup_power2_divisions:[256:1,>:8],garbage_collection_threshold:0.8,expandable_segments:True",
        ),
    ],
)
def test_other_settings_of_the_user_are_kept(settings: str | None, changed: str) -> None:
    assert expandable_variables({} if settings is None else {OLD: settings}) == {OLD: changed}


def test_each_variable_that_is_set_gets_the_setting() -> None:
    assert expandable_variables({NEW: "max_split_size_mb:64"}) == {NEW: "max_split_size_mb:64,expandable_segments:True"}
    both = expandable_variables({OLD: "backend:native", NEW: "max_split_size_mb:64"})
    assert both == {
        OLD: "backend:native,expandable_segments:True",
        NEW: "max_split_size_mb:64,expandable_segments:True",
    }
