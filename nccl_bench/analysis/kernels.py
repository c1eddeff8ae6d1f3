"""The kernels that NCCL ran (``--tuning``) for each size and arm, and where the kernels of compared arms differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nccl_bench.analysis.headline import Fact
from nccl_bench.analysis.wording import (
    case_name,
    compared_text,
    counted,
    every_comparison,
    joined,
    sizes_in_short,
)
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.records.columns import SampleColumns
from nccl_bench.records.kernels import Kernels

if TYPE_CHECKING:
    from nccl_bench.analysis.comparison import Comparison

# The headline describes this many differences at most, and counts the others.
_MOST_DIFFERENCES = 3


def _words(attribute: str) -> Callable[[Kernels | None], str | None]:
    """Return a function that returns the distinct values of ``attribute`` as one text; ``None`` without any."""

    def words(kernels: Kernels | None) -> str | None:
        values = [getattr(each, attribute) for each in kernels.distinct] if kernels else []
        return ", ".join(dict.fromkeys(filter(None, values))) or None

    return words


def _channels(kernels: Kernels | None) -> int | None:
    return max((each.channels for each in kernels.distinct if each.channels), default=None) if kernels else None


# Column of the summary -> the function that returns its value.
KERNEL_COLUMNS: Mapping[str, Callable[[Kernels | None], Any]] = {
    "algorithm": _words("algorithm"),
    "protocol": _words("protocol"),
    "special_kernel": _words("special"),
    "channels": _channels,
}


def kernels_of(samples: SampleColumns) -> dict[tuple[Case, Timing, str], Kernels]:
    """Return the kernels by case, timing and arm; a cell is absent if NCCL's log was not read."""
    known = samples.take(~samples.kernels.equals(None))
    cells = zip(known.case.to_list(), known.timing.to_list(), known.arm.to_list(), strict=True)
    of_cells: dict[tuple[Case, Timing, str], list[Kernels]] = {}
    for cell, kernels in zip(cells, known.kernels.to_list(), strict=True):
        of_cells.setdefault(cell, []).append(kernels)
    return {cell: joined_kernels(of_launches) for cell, of_launches in of_cells.items()}


def joined_kernels(of_launches: Iterable[Kernels]) -> Kernels:
    """Return the kernels of all launches."""
    return Kernels.of(kernel for each in of_launches for kernel in each.distinct)


def kernels_fact(comparisons: Sequence[Comparison], sides: tuple[str, str]) -> Fact | None:
    """Return whether the compared arms ran the same kernels; ``None`` if that is unknown for all ``comparisons``."""
    known = [each for each in comparisons if each.kernels is not None]
    if not known:
        return None
    groups: dict[tuple[str, str], list[Comparison]] = defaultdict(list)
    for each in known:
        before, after = (kernels.text for kernels in each.kernels or ())
        if before != after:
            groups[compared_text(each, sides), f"{after} against {before}"].append(each)
    if not groups:
        return Fact(name="Kernels", text=f"the arms ran the same kernels in {every_comparison(len(known))}")
    pairs = {arms for arms, _ in groups}
    texts = [
        f"{f'{arms}: ' if len(pairs) > 1 else ''}{kernels}, {_where(of_group, known)}"
        for (arms, kernels), of_group in groups.items()
    ]
    more = len(texts) - _MOST_DIFFERENCES
    shown = [*texts[:_MOST_DIFFERENCES], *([f"{counted(more, 'more difference')}"] if more > 0 else [])]
    return Fact(name="Kernels", text=f"the arms ran different kernels: {'; '.join(shown)}")


def how_called(timing: Timing) -> str:
    """Return how ``timing`` makes its calls. NCCL's choice of kernels depends on it."""
    return "in graphs" if TIMINGS[timing].captured else "eagerly"


def _where(some: Sequence[Comparison], known: Sequence[Comparison]) -> str:
    """Return the cases, sizes and ways of calling of ``some`` of the ``known`` comparisons."""
    several = len({each.case.kind for each in known}) > 1
    places = []
    for kind in dict.fromkeys(each.case.kind for each in some):
        of_some, of_known = (_sizes_by_way(kind, comparisons) for comparisons in (some, known))
        texts = {way: sizes_in_short(sizes, of_known[way]) for way, sizes in of_some.items()}
        alike = len({*texts.values()}) == 1 and len(texts) == len(of_known)
        of_kind = next(iter(texts.values())) if alike else joined([f"{text} {way}" for way, text in texts.items()])
        places.append(f"{case_name(kind, ())} {of_kind}" if several else of_kind)
    return joined(places)


def _sizes_by_way(kind: Case, comparisons: Iterable[Comparison]) -> dict[str, list[int]]:
    sizes: dict[str, set[int]] = {}
    for each in (each for each in comparisons if each.case.kind == kind):
        sizes.setdefault(how_called(each.timing), set()).add(each.case.size_bytes)
    return {way: sorted(of_way) for way, of_way in sorted(sizes.items())}
