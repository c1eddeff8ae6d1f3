"""All choices of the command line, as plain data and as plain ASCII tables."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType

from nccl_bench.catalog.arms import ARMS, ArmSpec
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.devices import DEVICES, DeviceSpec
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.probes import PROBES
from nccl_bench.catalog.routes import ROUTES, UNROUTED, Routes
from nccl_bench.catalog.timings import TIMINGS
from nccl_bench.report.layout import GAP, column

# A section has names, or rows of values by header.
Value = str | bool | Sequence[str]
Section = Sequence[str | Mapping[str, Value]]

# A narrower column is hard to read, so a table may be wider than the terminal.
_NARROWEST = 20
_NOTES: Mapping[str, str] = {
    "arms": "Values of --arms. timed: by default, only if requested, or never.",
    "user_arms": "More values of --arm: entry points of installed packages.",
    "collectives": "Values of --collective, with the placements of each.",
    "dtypes": "Values of --dtype; the names of nccl-tests are accepted too.",
    "redops": "Values of --op.",
    "timings": "Values of --timing, with the question that each answers.",
    "devices": "Values of --device, with the timings and probes that each lacks.",
    "probes": "The experiments of verify on stream order. alone: in processes of its own.",
    "routes": "The communicator for each operation of the coordinator arms; --routes overrides it.",
}


def sections(routes: Routes = ROUTES, user_arms: Mapping[str, str] = MappingProxyType({})) -> dict[str, Section]:
    """Return all choices by section, ready for JSON; ``user_arms`` has the targets of installed user arms by name."""
    routed = [{"operation": name, **{mode.value: row[mode].value for mode in row}} for name, row in routes.items()]
    return {
        "arms": [
            {"arm": arm.name, "timed": _timed(arm), "order": arm.order.value, "summary": arm.summary}
            for arm in ARMS.values()
        ],
        "user_arms": [{"arm": name, "target": target} for name, target in user_arms.items()] or ["none"],
        "collectives": [
            {
                "collective": row.name,
                **{placement.value: placement in row.placements for placement in Placement},
                "reduces": row.reduces,
            }
            for row in COLLECTIVES.values()
        ],
        "dtypes": list(DTYPES),
        "redops": [redop.value for redop in RedOp],
        "timings": [{"timing": timing.value, "question": row.question} for timing, row in TIMINGS.items()],
        "devices": [
            {"device": device.name, "transport": device.transport, "lacks": _lacks(device)}
            for device in DEVICES.values()
        ],
        "probes": [{"probe": probe.name, "alone": probe.alone, "summary": probe.summary} for probe in PROBES.values()],
        "routes": [*routed, *({"operation": name, "reason": reason} for name, reason in UNROUTED.items())],
    }


def listing_text(chosen: Mapping[str, Section], width: int) -> str:
    """Return the sections as tables; the last columns are wrapped to fit ``width``, but not below 20 characters."""
    return "\n".join("\n".join(_section(name, entries, width)) + "\n" for name, entries in chosen.items())


def _timed(arm: ArmSpec) -> str:
    return "default" if arm.default else "requested" if arm.timed else "never"


def _lacks(device: DeviceSpec) -> list[str]:
    on_default = device.missing_on_default_stream.items()
    return [
        *(f"{timing}: {reason}" for timing, reason in device.missing_timings.items()),
        *(f"{timing} on the default stream: {reason}" for timing, reason in on_default),
        *(f"probe {name}: {reason}" for name, reason in device.missing_probes.items()),
    ]


def _section(name: str, entries: Section, width: int) -> Iterable[str]:
    yield name
    yield from textwrap.wrap(_NOTES[name], width)
    names = [entry for entry in entries if isinstance(entry, str)]
    if names:
        yield ""
        yield from textwrap.wrap(", ".join(names), width, break_on_hyphens=False)
    # Rows with other headers get a table of their own.
    for _, rows in groupby((entry for entry in entries if not isinstance(entry, str)), key=tuple):
        yield ""
        yield from _table(list(rows), width)


def _table(rows: Sequence[Mapping[str, Value]], width: int) -> Iterable[str]:
    *fixed, last = rows[0]
    taken = sum(max(len(key), *(len(_text(row[key])) for row in rows)) + GAP for key in fixed)
    lines: list[dict[str, str]] = []
    for row in rows:
        parts = _wrapped(row[last], max(_NARROWEST, width - taken))
        lines += [
            {**{key: "" if number else _text(row[key]) for key in fixed}, last: part}
            for number, part in enumerate(parts)
        ]
    columns = [column(key, (key,), [line[key] for line in lines], left=True) for key in rows[0]]
    for cells in zip(*((*each.header, "-" * each.width, *each.cells) for each in columns), strict=True):
        yield (" " * GAP).join(cells).rstrip()


def _wrapped(value: Value, width: int) -> list[str]:
    items = [_text(value)] if isinstance(value, str | bool) else value
    return [part for item in items for part in textwrap.wrap(item, width, break_on_hyphens=False)] or [""]


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else ", ".join(value)
