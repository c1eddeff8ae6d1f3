"""Rounds the numbers of a page, which can be a million, and makes a document of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, chain, pairwise

import msgspec
import numpy as np

from nccl_bench.report.escaping import visible_data

_LARGEST_EXACT = 1e22
_POWERS_OF_TEN = np.array([float(f"1e{power}") for power in range(309)])
# A number this close to the middle between two results is rounded as text.
_NEAR = 1e-6
# Characters that a browser could take for markup -> their escapes in JSON.
_ESCAPES: Mapping[str, str] = {"<": r"\u003c", ">": r"\u003e", "&": r"\u0026", "'": r"\u0027"}


def rounded_lists(lists: Sequence[Sequence[float | None]], digits: int) -> list[list[float]]:
    """Return each of ``lists`` as ``rounded`` does. One call for all lists takes little more time than for one list."""
    numbers, ends = rounded([*chain.from_iterable(lists)], digits), accumulate(map(len, lists), initial=0)
    return [numbers[start:end] for start, end in pairwise(ends)]


def rounded(values: Sequence[float | None], digits: int) -> list[float]:
    """Return ``values`` with ``digits`` significant digits. ``None`` becomes NaN, which JSON shows as null."""
    numbers = np.array(values, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        places = digits - 1 - np.floor(np.log10(np.abs(numbers)))
        powers = _POWERS_OF_TEN[np.nan_to_num(np.abs(places), posinf=0).clip(0, 308).astype(np.intp)]
        scaled = np.where(places < 0, numbers / powers, numbers * powers)
        nearest = np.where(places < 0, np.rint(scaled) * powers, np.rint(scaled) / powers)
    # A float holds only these powers exactly.
    is_sure = (
        np.isfinite(places) & (powers <= _LARGEST_EXACT) & (np.abs(np.abs(scaled - np.rint(scaled)) - 0.5) > _NEAR)
    )
    in_digits: list[float] = np.where(is_sure, nearest, numbers).tolist()
    # If a number is nearly halfway between two results, or if its power is inexact, the product is not exact enough.
    for index in np.flatnonzero(~is_sure & np.isfinite(numbers)).tolist():
        in_digits[index] = float(f"{in_digits[index]:.{digits}g}")
    return in_digits


def raw_json(data: Mapping[str, object]) -> msgspec.Raw:
    """Return plain data as JSON, which needs a quarter of the memory. It can be a part of the data of a page."""
    return msgspec.Raw(msgspec.json.encode(visible_data(data)))


def script_json(data: Mapping[str, object]) -> str:
    """Return plain data as JSON that stands between tags of HTML. Absent numbers and NaN are null."""
    text = msgspec.json.encode(visible_data(data)).decode()
    for letter, escape in _ESCAPES.items():
        text = text.replace(letter, escape)
    return text
