"""Message sizes and sweeps, as nccl-tests reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nccl_bench.config.sizes import Sweep, format_size, parse_size, parse_sizes, unique
from nccl_bench.errors import UsageError


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("8", 8),
        (8, 8),
        (" 8 ", 8),
        ("8B", 8),
        ("4K", 4096),
        ("4k", 4096),
        ("4KB", 4096),
        ("4 KiB", 4096),
        ("1M", 1_048_576),
        ("1.75M", 1_835_008),
        ("1G", 1_073_741_824),
        ("2T", 2_199_023_255_552),
        ("9007199254740993", 9_007_199_254_740_993),
    ],
)
def test_a_suffix_is_a_power_of_1024(text: str | int, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "K", "-8", "8X", "1e6", "0x10", "8 9", "8:16:x2", True, False, 1.5, None])
def test_a_malformed_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not a message size: .*write bytes, such as 8, 4K, 1M or 2G"):
        parse_size(text)


@pytest.mark.parametrize("text", ["0", 0, "0K", "0.5", "1.5", "0.3K", "1.00000000000000000001K"])
def test_a_size_is_a_whole_positive_number_of_bytes(text: str | int) -> None:
    with pytest.raises(UsageError, match="a whole number of bytes, at least 1"):
        parse_size(text)


def test_a_size_may_exceed_floating_point() -> None:
    assert parse_size("9" * 400) == int("9" * 400)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (1, "1"),
        (1000, "1000"),
        (1023, "1023"),
        (1024, "1K"),
        (1025, "1025"),
        (1536, "1.5K"),
        (14 * 1024, "14K"),
        (1_835_008, "1.75M"),
        (2**30, "1G"),
        (2**40, "1T"),
    ],
)
def test_a_size_is_written_in_the_shortest_exact_form(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text


@given(
    st.one_of(
        st.integers(1, 2**64),
        st.builds(lambda n, power: n * 1024**power // 4, st.integers(4, 40_000), st.integers(0, 4)),
    )
)
def test_a_written_size_is_read_back(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == size_bytes


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("8:128:x2", (8, 16, 32, 64, 128)),
        ("8:100:x2", (8, 16, 32, 64)),
        ("8:1K:x8", (8, 64, 512)),
        ("1M:4M:+1M", (1 << 20, 2 << 20, 3 << 20, 4 << 20)),
        ("1M:3.5M:+1M", (1 << 20, 2 << 20, 3 << 20)),
        ("8:8:x2", (8,)),
        ("4K", (4096,)),
        ("8,4K, 1M,", (8, 4096, 1 << 20)),
        ("1K,1024,8,1K", (1024, 8)),
    ],
)
def test_sizes_are_a_sweep_or_a_list(text: str, sizes: tuple[int, ...]) -> None:
    assert parse_sizes("sizes", text) == sizes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8:1K", "is not a sweep: did you mean 8:1K:x2\\? Else write BEGIN:END:xFACTOR or BEGIN:END:"),
        ("8:1K:2", "is not a sweep: did you mean 8:1K:x2"),
        ("8:oops", "is not a sweep: write"),
        ("8:6s:x2", "'6s' is not a message size: did you mean 6, 6K or 6M"),
        ("8:1K:x", "is not a sweep"),
        ("8:1K:x1.5", "is not a sweep"),
        ("8:1K:x-2", "is not a sweep"),
        ("8:1K:+", "is not a sweep"),
        ("8:1K:x2:x2", "is not a sweep"),
        ("8:oops:x2", "'oops' is not a message size"),
        ("8:1K:+oops", "'oops' is not a message size"),
        ("8:1K:+0", "a whole number of bytes, at least 1"),
        ("1K:8:x2", "begins at 1K, which is above its end, 8: did you mean 8:1K:x2"),
        ("8:1K:x1", "the factor of the sweep is 1"),
        ("8:1K:x0", "the factor of the sweep is 0"),
        ("1:1G:+1", "over 10000 sizes: give a larger step"),
    ],
)
def test_a_malformed_or_endless_sweep_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_sizes("sizes", text)


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(2, 9), st.booleans())
def test_a_sweep_rises_within_its_ends(begin: int, length: int, stride: int, geometric: bool) -> None:
    end = begin + length
    step = stride * max(1, length // 100)
    sweep = Sweep(begin=begin, end=end, factor=stride if geometric else None, step=None if geometric else step)
    sizes = sweep.sizes
    assert sizes[0] == begin
    following = [size * stride if geometric else size + step for size in sizes]
    assert list(sizes[1:]) == following[:-1]
    assert sizes[-1] <= end < following[-1]


def test_each_size_is_kept_once_in_the_order_given() -> None:
    assert unique([4, 8, 4, 2, 8]) == (4, 8, 2)
