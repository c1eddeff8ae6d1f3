"""The sizes that a table must have, and the rows that it has."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from nccl_bench.catalog.collectives import Collective
from nccl_bench.catalog.dtypes import DTYPE_ALIASES, DTYPES
from nccl_bench.errors import RecordError
from nccl_bench.records.importers.nccl_tests.output import Output, ResultRow, Sizes

# More sizes than a table of nccl-tests has.
_MOST_SIZES = 100_000
# A message names at most this number of sizes.
_MOST_NAMED = 5
_Kind = tuple[str, str, int]


def missing_sizes(output: Output) -> list[str]:
    """Return sentences about the sizes that the settings imply and the rows lack."""
    return _sentences(output, missing=True)


def unexpected_sizes(output: Output) -> list[str]:
    """Return sentences about rows that the settings do not imply: another size, or a size too often."""
    return _sentences(output, missing=False)


def _sentences(output: Output, *, missing: bool) -> list[str]:
    """Return a sentence for each different gap; kinds of rows with one gap, such as all roots, share a sentence."""
    kinds: dict[str, list[str]] = {}
    for (dtype, redop, root), rows in _by_kind(output.rows).items():
        if text := _gap(output, dtype, rows, missing=missing):
            kinds.setdefault(text, []).append(f"{dtype} {redop}".strip() + (f" root {root}" if root >= 0 else ""))
    return [
        f"{names[0]}{f' and {len(names) - 1} other kinds of rows' if len(names) > 1 else ''}: {text}"
        for text, names in kinds.items()
    ]


def _by_kind(rows: Sequence[ResultRow]) -> Mapping[_Kind, Counter[int]]:
    """Return how often each size is there, by data type, reduction and root."""
    kinds: dict[_Kind, Counter[int]] = {}
    for row in rows:
        kinds.setdefault((row.dtype, row.redop, row.root), Counter())[row.size_bytes] += 1
    return kinds


def _gap(output: Output, dtype: str, rows: Counter[int], *, missing: bool) -> str:
    """Return the sizes that the rows of one kind lack, or have too often; empty if there are none."""
    row_of_dtype = DTYPES.get(DTYPE_ALIASES.get(dtype, dtype))
    if row_of_dtype is None:
        return ""
    expected = min(
        (_expected(output, row_of_dtype.itemsize, aligned=aligned) for aligned in (True, False)),
        key=lambda sizes: (sizes - rows).total(),
    )
    # Programs print each size once a cycle (-N).
    often = [rows[size] // number for size, number in expected.items() if rows[size] >= number]
    cycles = max(output.cycles, Counter(often).most_common(1)[0][0] if often else 1)
    expected = Counter({size: number * cycles for size, number in expected.items()})
    different = expected - rows if missing else rows - expected
    if not different:
        return ""
    named = ", ".join(f"{size} B" for size in sorted(different)[:_MOST_NAMED])
    more = f" and {len(different) - _MOST_NAMED} more" if len(different) > _MOST_NAMED else ""
    if missing:
        return f"{len(different)} of {len(expected)} sizes in the settings have no complete row: {named}{more}"
    return f"there are more rows than the settings imply, or rows of other sizes: {named}{more}"


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
            # nccl-tests repeats the same size without an end: every row may be there.
            return
        size = following
