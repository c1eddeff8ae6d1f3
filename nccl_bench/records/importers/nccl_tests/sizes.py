"""The sizes that a table must have, and the rows that it has."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from nccl_bench.catalog.collectives import Collective
from nccl_bench.catalog.dtypes import DTYPE_ALIASES, DTYPES
from nccl_bench.errors import RecordError
from nccl_bench.records.importers.nccl_tests.abridging import abridged
from nccl_bench.records.importers.nccl_tests.output import Output, Sizes

# More sizes than a table of nccl-tests has.
_MOST_SIZES = 20_000
_Kind = tuple[str, str, int]


def missing_sizes(output: Output) -> list[str]:
    """Return sentences about the sizes that the settings imply and the rows lack."""
    return _sentences(
        (kind, f"{len(gap)} of {len(expected)} sizes in the settings have no complete row: {_named(gap)}")
        for kind, rows, expected in _by_kind(output)
        if (gap := expected - rows)
    )


def unexpected_rows(output: Output) -> list[str]:
    """Return sentences about rows that the settings do not imply: another size, or a row that is there twice."""
    gaps = _sentences(
        (kind, f"there are more rows than the settings imply, or rows of other sizes: {_named(gap)}")
        for kind, rows, expected in _by_kind(output)
        if (gap := rows - expected)
    )
    places: dict[str, list[str]] = {}
    for row in output.rows:
        if row.size_bytes:
            places.setdefault(repr(replace(row, where="")), []).append(row.where)
    return [*gaps, *(f"{' and '.join(same)} have the same row" for same in places.values() if len(same) > 1)]


def missing_roots(output: Output) -> list[str]:
    """Return a sentence if several roots have rows, and others have none: nccl-tests measures one root, or all."""
    roots = {row.root for row in output.rows}
    if not output.collective.rooted or len(roots) < 2:
        return []
    missing = [root for root in range(output.world_size) if root not in roots]
    if not missing:
        return []
    return [f"{len(missing)} of {output.world_size} roots have no complete row: {_named(missing, unit='')}"]


def _sentences(gaps: Iterable[tuple[_Kind, str]]) -> list[str]:
    """Return a sentence for each different gap. Kinds of rows with the same gap, such as all roots, share it."""
    kinds: dict[str, list[str]] = {}
    for (dtype, redop, root), text in gaps:
        kinds.setdefault(text, []).append(f"{dtype} {redop}".strip() + (f" root {root}" if root >= 0 else ""))
    return [
        f"{names[0]}{f' and {len(names) - 1} other kinds of rows' if len(names) > 1 else ''}: {text}"
        for text, names in kinds.items()
    ]


def _named(numbers: Iterable[int], unit: str = " B") -> str:
    return ", ".join(abridged([f"{number}{unit}" for number in sorted(numbers)]))


def _by_kind(output: Output) -> list[tuple[_Kind, Counter[int], Counter[int]]]:
    """Return how often each size occurs and how often it should, for each data type, reduction and root."""
    kinds: dict[_Kind, Counter[int]] = {}
    for row in output.rows:
        kinds.setdefault((row.dtype, row.redop, row.root), Counter())[row.size_bytes] += 1
    expected: dict[_Kind, Counter[int]] = {}
    # The expected sizes, aligned and not, by the bytes of an element.
    of_itemsize: dict[int, tuple[Counter[int], Counter[int]]] = {}
    for kind, rows in kinds.items():
        dtype = DTYPES.get(DTYPE_ALIASES.get(kind[0], kind[0]))
        if dtype is not None:
            size = dtype.itemsize
            if size not in of_itemsize:
                of_itemsize[size] = _expected(output, size, aligned=True), _expected(output, size, aligned=False)
            aligned, unaligned = of_itemsize[size]
            expected[kind] = aligned if (aligned - rows).total() <= (unaligned - rows).total() else unaligned
    # A program prints all rows again in each cycle (-N), so most rows are there once a cycle.
    often = Counter(kinds[kind][size] // number for kind, sizes in expected.items() for size, number in sizes.items())
    cycles = max(1, output.cycles, next((number for number, _ in often.most_common() if number), 1))
    return [
        (kind, kinds[kind], Counter({size: number * cycles for size, number in sizes.items()}))
        for kind, sizes in expected.items()
    ]


def _expected(output: Output, itemsize: int, *, aligned: bool) -> Counter[int]:
    """Return the sizes that nccl-tests prints, and how often: small sizes can be rounded to the same number.

    Older programs do not round blocks to 16 bytes: then ``aligned`` is ``False``.
    """
    sizes: Counter[int] = Counter()
    for size in _nominal(output.sizes):
        sizes[_printed(output.collective, size, itemsize, output.world_size, aligned=aligned)] += 1
    return sizes


def _printed(collective: Collective, size: int, itemsize: int, world_size: int, *, aligned: bool) -> int:
    if aligned or not collective.has_blocks:
        count = collective.block_count(size, itemsize, world_size)
    else:
        count = size // itemsize // world_size
    return collective.size_bytes(count, itemsize, world_size)


def _nominal(sizes: Sizes) -> Iterator[int]:
    """Yield the sizes from the smallest to the largest, before they are rounded."""
    size, number = sizes.minimum, 0
    while size <= sizes.maximum:
        yield size
        number += 1
        if number > _MOST_SIZES:
            raise RecordError(
                f"its settings imply more than {_MOST_SIZES} sizes, from {sizes.minimum} to {sizes.maximum} in steps "
                f"of {sizes.step}: their line is wrong"
            )
        following = size * sizes.step if sizes.is_factor else size + sizes.step
        if following <= size:
            # With this step, nccl-tests repeats one size without end, so any number of rows is possible.
            return
        size = following
