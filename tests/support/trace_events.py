"""A strict reader of Chrome's Trace Event Format, as far as timelines use it: slices in lanes that have names."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_METADATA = {"process_name": ("name", str), "thread_name": ("name", str), "thread_sort_index": ("sort_index", int)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A slice of a lane."""

    name: str  # its name
    category: str  # its category
    begin_ns: int  # where it begins
    end_ns: int  # where it ends
    facts: Mapping[str, Any]  # what a viewer shows of it


def lanes_of(text: str) -> dict[str, list[Slice]]:
    """Return the slices of each lane by the lane's name. Raises ``AssertionError`` if ``text`` breaks a rule."""
    slices, problems = _read(text)
    assert problems == []
    return slices


def problems_of(text: str) -> list[str]:
    """Return the rules that ``text`` breaks."""
    return _read(text)[1]


def _read(text: str) -> tuple[dict[str, list[Slice]], list[str]]:
    document = json.loads(text, parse_constant=lambda name: f"not JSON: {name}")
    problems = []
    if document.get("displayTimeUnit") not in ("ms", "ns"):
        problems.append("displayTimeUnit")
    names: dict[tuple[int, int], str] = {}
    slices: dict[tuple[int, int], list[Slice]] = defaultdict(list)
    for event in document["traceEvents"]:
        if wrong := list(_wrong_fields(event)):
            problems.append(f"{wrong} of {event}")
            continue
        lane = event["pid"], event["tid"]
        if event["name"] == "thread_name" and event["ph"] == "M":
            names[lane] = event["args"]["name"]
        elif event["ph"] == "X":
            begin_ns = round(event["ts"] * 1000)
            slices[lane].append(
                Slice(
                    name=event["name"],
                    category=event["cat"],
                    begin_ns=begin_ns,
                    end_ns=begin_ns + round(event["dur"] * 1000),
                    facts=event["args"],
                )
            )
    problems += [f"the lane {lane} has no name" for lane in slices if lane not in names]
    problems += [f"several lanes are called {name}" for name in {*names.values()} if [*names.values()].count(name) > 1]
    problems += [problem for of_lane in slices.values() for problem in _overlaps(of_lane)]
    return {name: slices[lane] for lane, name in names.items()}, problems


def _wrong_fields(event: Mapping[str, Any]) -> Iterator[str]:
    # Perfetto reserves the number 0 for the idle thread.
    yield from (key for key in ("pid", "tid") if type(event.get(key)) is not int or event[key] <= 0)
    yield from (key for key, kind in (("name", str), ("args", dict)) if not isinstance(event.get(key), kind))
    if event.get("ph") == "M":
        key, kind = _METADATA.get(event["name"], ("name", object))
        if event["name"] not in _METADATA or not isinstance(event["args"].get(key), kind):
            yield "metadata"
    elif event.get("ph") == "X":
        yield from (
            key
            for key in ("ts", "dur")
            if isinstance(event.get(key), bool) or not isinstance(event.get(key), int | float) or event[key] < 0
        )
        if not isinstance(event.get("cat"), str):
            yield "cat"
    else:
        yield "ph"


def _overlaps(slices: Sequence[Slice]) -> Iterator[str]:
    """Yield each slice that begins within another one and ends behind it: viewers drop such slices."""
    around: list[Slice] = []
    # Of slices that begin together, the first one in the file is around the others.
    for each in sorted(slices, key=lambda each: each.begin_ns):
        while around and around[-1].end_ns <= each.begin_ns:
            around.pop()
        if around and around[-1].end_ns < each.end_ns:
            yield f"{each.name} at {each.begin_ns} ns ends behind {around[-1].name}"
        around.append(each)
