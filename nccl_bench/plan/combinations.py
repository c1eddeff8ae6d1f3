"""Short texts for combinations of choices, such as collectives with data types."""

from collections.abc import Iterable

from nccl_bench.catalog.dtypes import DTYPES

# One choice of each kind: a collective, a data type, and optionally a reduction and a placement.
Combination = tuple[str | None, ...]


def join_combinations(combinations: Iterable[Combination]) -> list[str]:
    """Return a few texts with choices separated by commas. All texts together describe exactly ``combinations``."""
    blocks: list[tuple[Combination, ...]] = [tuple((choice,) for choice in combination) for combination in combinations]
    for axis in reversed(range(max(map(len, blocks), default=0))):
        merged: dict[tuple[Combination, ...], Combination] = {}
        for block in blocks:
            rest = block[:axis] + block[axis + 1 :]
            merged[rest] = merged.get(rest, ()) + block[axis]
        blocks = [(*rest[:axis], choices, *rest[axis:]) for rest, choices in merged.items()]
    return [" ".join(filter(None, map(_join_choices, block))) for block in blocks]


def _join_choices(choices: Combination) -> str:
    if set(choices) == set(DTYPES):
        return "all dtypes"
    texts = [choice for choice in choices if choice]
    return (", " if any(" " in text for text in texts) else ",").join(texts)
