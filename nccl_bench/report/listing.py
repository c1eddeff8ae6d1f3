"""All choices of the command line, as plain data and in every format."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, groupby
from types import MappingProxyType
from typing import TextIO

from rich.text import Text

from nccl_bench.catalog.arms import ARMS, ArmSpec
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.devices import DEVICES, DeviceSpec
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.probes import PROBES
from nccl_bench.catalog.routes import ROUTES, UNROUTED, Routes
from nccl_bench.catalog.scenarios import SCENARIOS
from nccl_bench.catalog.timings import TIMINGS
from nccl_bench.config.presets import presets, summary_of
from nccl_bench.report import Format, Report
from nccl_bench.report.formats import csv_text, json_text, markdown_table
from nccl_bench.report.layout import GAP, Column, Table, column
from nccl_bench.report.text import TextReport

# A section is a list of names, or a list of rows. A row maps each header to its value.
Value = str | bool | Sequence[str]
Section = Sequence[str | Mapping[str, Value]]
Sections = Mapping[str, Section]

# The smallest width of the last column; the table can therefore be wider than the terminal.
_NARROWEST = 20
_NOTES: Mapping[str, str] = {
    "arms": "Values of --arms. Column timed: measured by default, only if requested, or never.",
    "user_arms": "More values of --arm: entry points of installed packages.",
    "collectives": "Values of --collective, with the placements of each.",
    "dtypes": "Values of --dtype; the names of nccl-tests are accepted too.",
    "redops": "Values of --op.",
    "scenarios": "Values of --scenario, with the question that each answers.",
    "timings": "Values of --timing, with the question that each answers.",
    "devices": "Values of --device, with the timings and probes that each lacks.",
    "probes": "The experiments of verify. Column ends processes: if it fails, its processes end and new ones go on.",
    "presets": "Values of --preset of run: options and models that come with nccl-bench.",
    "routes": "The communicator that coordinator arms use for each operation; --routes overrides it.",
}


def sections(routes: Routes = ROUTES, user_arms: Mapping[str, str] = MappingProxyType({})) -> dict[str, Section]:
    """Return all choices by section, ready for JSON; ``user_arms`` has the targets of installed user arms by name."""
    routed = [{"operation": name, **{mode.value: row[mode].value for mode in row}} for name, row in routes.items()]
    return {
        "arms": [
            {"arm": arm.name, "timed": _timed(arm), "order": arm.order.value, "summary": arm.summary}
            for arm in ARMS.values()
        ],
        "user_arms": [{"arm": name, "target": target} for name, target in user_arms.items()],
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
        "scenarios": [
            {"scenario": name.value, "time of": f"a {row.unit}", "question": row.question}
            for name, row in SCENARIOS.items()
        ],
        "timings": [{"timing": timing.value, "question": row.question} for timing, row in TIMINGS.items()],
        "devices": [
            {"device": device.name, "transport": device.transport, "lacks": _lacks(device)}
            for device in DEVICES.values()
        ],
        "probes": [
            {"probe": probe.name, "ends processes": probe.ends_processes, "summary": probe.summary}
            for probe in PROBES.values()
        ],
        "presets": [{"preset": name, "summary": summary_of(file)} for name, file in presets().items()],
        "routes": [*routed, *({"operation": name, "reason": reason} for name, reason in UNROUTED.items())],
    }


def reports(stream: TextIO, width: int | None) -> dict[Format, Report[Sections]]:
    """Return the report of each format; without ``width`` the width of ``stream`` applies."""
    return {
        Format.TERMINAL: TerminalListing.for_stream(stream, width).render,
        Format.MARKDOWN: markdown_listing,
        Format.CSV: csv_listing,
        Format.JSON: json_text,
    }


class TerminalListing(TextReport[Sections]):
    """Tables and lists of names; the last column of a table is wrapped to fit, with at least 20 characters."""

    def _lines(self, content: Sections) -> Iterator[Text]:
        for number, (name, section) in enumerate(content.items()):
            if number:
                yield Text()
            yield Text(name, "bold")
            yield from self._wrapped(_NOTES[name])
            names = [entry for entry in section if isinstance(entry, str)]
            if names or not section:
                yield Text()
                yield from self._wrapped(", ".join(names) or "none")
            # Rows with different headers are in different tables.
            for _, rows in groupby((entry for entry in section if not isinstance(entry, str)), key=tuple):
                yield from self._table(_wrapped_columns(list(rows), self.width), GAP)


def markdown_listing(content: Sections) -> str:
    """Return GitHub's Markdown, a table for each section."""
    tables = (
        Table(
            title=name,
            notes=(_NOTES[name],),
            columns=tuple(column(key, (key,), cells, left=True) for key, cells in _columns(name, section).items()),
            keep=1,
        )
        for name, section in content.items()
    )
    return "\n".join(chain.from_iterable(map(markdown_table, tables)))


def csv_listing(content: Sections) -> str:
    """Return a header line, and a line for each row of the only section."""
    ((name, section),) = content.items()
    columns = _columns(name, section)
    return csv_text(columns, [columns])


def _timed(arm: ArmSpec) -> str:
    return "default" if arm.default else "requested" if arm.timed else "never"


def _lacks(device: DeviceSpec) -> list[str]:
    on_default = device.missing_on_default_stream.items()
    return [
        *(f"{timing}: {reason}" for timing, reason in device.missing_timings.items()),
        *(f"{timing} on the default stream: {reason}" for timing, reason in on_default),
        *(f"probe {name}: {reason}" for name, reason in device.missing_probes.items()),
    ]


def _columns(name: str, section: Section) -> dict[str, list[str]]:
    """Return the texts of each column. A list of names is one column. A value that a row lacks is an empty text."""
    rows = [entry if isinstance(entry, Mapping) else {name: entry} for entry in section]
    return {key: [_text(row.get(key, "")) for row in rows] for key in dict.fromkeys(chain(*rows)) or (name,)}


def _wrapped_columns(rows: Sequence[Mapping[str, Value]], width: int) -> tuple[Column, ...]:
    *fixed, last = rows[0]
    taken = sum(max(len(key), *(len(_text(row[key])) for row in rows)) + GAP for key in fixed)
    lines: list[dict[str, str]] = []
    for row in rows:
        parts = _wrapped(row[last], max(_NARROWEST, width - taken))
        lines += [
            {**{key: "" if number else _text(row[key]) for key in fixed}, last: part}
            for number, part in enumerate(parts)
        ]
    return tuple(column(key, (key,), [line[key] for line in lines], left=True) for key in rows[0])


def _wrapped(value: Value, width: int) -> list[str]:
    items = [_text(value)] if isinstance(value, str | bool) else value
    return [part for item in items for part in textwrap.wrap(item, width, break_on_hyphens=False)] or [""]


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else "; ".join(value)
