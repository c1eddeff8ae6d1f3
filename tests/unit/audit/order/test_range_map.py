"""The map of byte ranges against a map of single bytes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from nccl_bench.audit.order.places import ByteRange
from nccl_bench.audit.order.range_map import RangeMap

RANGES = st.builds(ByteRange, address=st.integers(0, 30), length=st.integers(0, 10))


def set_and_see(ranges: RangeMap[str], memory: ByteRange, value: str | None) -> dict[int, str | None]:
    """Set the bytes of ``memory``, and return the values that they had."""
    seen: dict[int, str | None] = {}

    def change(start: int, end: int, old: str | None) -> str | None:
        seen.update(dict.fromkeys(range(start, end), old))
        return value

    ranges.update(memory, change)
    return seen


@given(st.lists(st.tuples(RANGES, st.sampled_from(["a", "b", None]))))
def test_the_map_has_the_value_of_every_byte(changes: list[tuple[ByteRange, str | None]]) -> None:
    ranges: RangeMap[str] = RangeMap()
    single: dict[int, str] = {}
    for memory, value in changes:
        seen = set_and_see(ranges, memory, value)
        assert seen == {byte: single.get(byte) for byte in range(memory.address, memory.end)}
        for byte in seen:
            single.pop(byte, None)
            if value is not None:
                single[byte] = value
    segments = list(ranges)
    assert {byte: value for memory, value in segments for byte in range(memory.address, memory.end)} == single
    # Neighbours with equal values are one segment.
    assert all(a[0].end < b[0].address or a[1] != b[1] for a, b in pairwise(segments))
    window = ByteRange(address=10, length=10)
    parts = {byte: value for memory, value in ranges.overlapping(window) for byte in range(memory.address, memory.end)}
    assert parts == {byte: value for byte, value in single.items() if window.address <= byte < window.end}
