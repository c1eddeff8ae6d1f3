"""Numbers of a page are rounded all at once, with the results of Python's own formatting."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from nccl_bench.report.html.rounding import rounded, script_json

NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    # Halfway between two results.
    st.decimals(min_value=0, max_value=100_000, places=4).map(float),
)


@given(numbers=st.lists(NUMBERS, min_size=1), digits=st.sampled_from([4, 6]))
def test_rounding_gives_what_formatting_gives(numbers: list[float], digits: int) -> None:
    assert rounded(numbers, digits) == [float(f"{number:.{digits}g}") for number in numbers]


def test_an_absent_number_is_null_and_no_text_is_markup() -> None:
    (absent,) = rounded([None], 4)
    assert math.isnan(absent)
    assert script_json({"values": [absent, 0.5], "arm": "</script>&\x1b"}) == (
        r'{"values":[null,0.5],"arm":"\u003c/script\u003e\u0026\\x1b"}'
    )
