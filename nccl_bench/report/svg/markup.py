"""SVG elements: escaped text, short numbers."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree.ElementTree import Element, SubElement

from nccl_bench.report.escaping import visible


def add(parent: Element, tag: str, text: str = "", **attributes: str | float) -> Element:
    """Append an element with ``text`` to ``parent``, and return it. A trailing ``_`` of an attribute is removed."""
    element = SubElement(
        parent, tag, {name.rstrip("_").replace("_", "-"): _value(value) for name, value in attributes.items()}
    )
    element.text = visible(text) or None
    return element


def path(points: Iterable[tuple[float, float]]) -> str:
    """Return the data of a path through ``points``; an empty text if there are no points."""
    return "".join(f"{'L' if number else 'M'}{short(x)} {short(y)}" for number, (x, y) in enumerate(points))


def short(number: float) -> str:
    """Return ``number`` with one decimal, or without a decimal if this decimal is 0."""
    return f"{number:.1f}".removesuffix(".0")


def _value(value: str | float) -> str:
    return visible(value) if isinstance(value, str) else short(value)
