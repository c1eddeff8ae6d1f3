"""The nearest of several names."""

from __future__ import annotations

import pytest

from nccl_bench.catalog.arms import ARMS
from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.config.nearest import instead_of, nearest


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ("streamfree", "stream-free"),
        ("Stream_Free", "stream-free"),
        ("stream-fre", "stream-free"),
        ("allreduce", "all_reduce"),
        ("alltoall", "all_to_all"),
        # The beginning of a name.
        ("coord", "coordinator"),
        ("xyz", None),
        ("", None),
        (7, None),
    ],
)
def test_the_nearest_name_ignores_capitals_and_hyphens(given: object, near: str | None) -> None:
    assert nearest(given, [*COLLECTIVES, *ARMS]) == near


def test_a_message_has_the_nearest_name_and_then_all_unless_they_are_many() -> None:
    assert instead_of("grap", ["eager", "graph"]) == "did you mean 'graph'? Allowed are eager, graph"
    assert instead_of("x", ["eager", "graph"]) == "allowed are eager, graph"
    many = [f"name{letter}" for letter in "abcdefghijklmnop"]
    assert instead_of("namea", many) == "did you mean 'namea'?"
    assert instead_of("z", many) == f"allowed are {', '.join(many)}"
    # An alias is allowed, and is not listed.
    assert instead_of("halv", ["float16"], ["half"]) == "did you mean 'half'? Allowed are float16"
