"""Combinations of choices, such as a collective and a data type, as few short texts."""

from __future__ import annotations

from collections.abc import Iterable

from nccl_bench.catalog.dtypes import DTYPES

# Choices that belong together: a collective and a data type, and maybe a reduction and a placement.
Combination = tuple[str | None, ...]


def join_combinations(combinations: Iterable[Combination]) -> list[str]:
    """Return texts of comma-separated choices that together stand for exactly these ``combinations``."""
    blocks: list[tuple[Combination, ...]] = [tuple((choice,) for choice in combination) for combination in combinations]
    for axis in reversed(range(max(map(len, blocks), default=0))):
        merged: dict[tuple[Combination, ...], Combination] = {}
        for block in blocks:
            rest = block[:axis] + block[axis + 1 :]
            merged[rest] = merged.get(rest, ()) + block[axis]
        blocks = [(*rest[:axis], choices, *rest[axis:]) for rest, choices in merged.items()]
    return [" ".join(filter(None, map(_join_choices, block))) for block in blocks]


def _join_choices(choices: Combination) -> str:
    return "all dtypes" if set(choices) == set(DTYPES) else ",".join(filter(None, choices))
