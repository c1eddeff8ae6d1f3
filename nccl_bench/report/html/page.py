"""A page as data: sections of blocks. The template ``page.html`` has the markup of each kind of block."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from itertools import groupby
from typing import ClassVar

from nccl_bench.report.charts.kinds import ChartArm
from nccl_bench.report.escaping import visible
from nccl_bench.report.html.rounding import script_json

_LIBRARY = "uPlot.iife.min.js"
# The parts of the page's own script. Each part can use the names of all other parts.
_PARTS = ("scales.js", "charts.js", "figures.js", "times.js", "numbers.js", "page.js")
_STYLES = ("uPlot.min.css", "page.css")
_UNITS = re.compile(r"(?<=\d) (?=%|us\b|[KMGT]iB\b|B\b)")
_LICENSES = ("uPlot-LICENSE.txt",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A part of a section."""

    template: ClassVar[str]  # the name of the macro in blocks.html


@dataclass(frozen=True, slots=True, kw_only=True)
class Paragraphs(Block):
    """Sentences, each a paragraph."""

    template = "paragraphs"
    items: Sequence[str]  # the sentences
    style: str = "note"  # `note`, or `answer` for the answer to the heading's question


@dataclass(frozen=True, slots=True, kw_only=True)
class Remarks(Block):
    """A titled list of sentences."""

    template = "remarks"
    title: str  # the title
    items: Sequence[str]  # the sentences
    style: str = "plain"  # `plain`, `warning` or `problem`
    folded: bool = False  # True if the reader has to unfold the list


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedText:
    """A text with its name."""

    name: str  # the name
    text: str  # the text
    command: str = ""  # the part of the text that the reader can copy and run; empty if there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts(Block):
    """Names with their texts."""

    template = "facts"
    items: Sequence[NamedText]  # the facts
    style: str = "facts"  # `facts`, or `legend` for the meanings of words

    @property
    def groups(self) -> Sequence[tuple[str, Sequence[NamedText]]]:
        """The facts that follow each other and have the same name, with this name."""
        return [(name, list(items)) for name, items in groupby(self.items, key=lambda item: item.name)]


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedCalls:
    """Calls of a program, the innermost first."""

    name: str  # the name of the calls
    text: str  # what they do
    calls: Sequence[tuple[str, str]] = ()  # the place of each call, and the text of its line


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls(Block):
    """Calls of a program with their names."""

    template = "calls"
    title: str  # the title above the calls
    items: Sequence[NamedCalls]  # the calls


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictLine:
    """A line of the headline."""

    label: str  # the verdict in one word
    timing: str  # the timing; empty if the text names it
    text: str  # the sizes and the differences


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts(Block):
    """Verdicts of the headline about one pair of arms."""

    template = "verdicts"
    title: str  # the pair of arms; empty if the heading of the page names it
    lines: Sequence[VerdictLine]  # the lines


@dataclass(frozen=True, slots=True, kw_only=True)
class PageTable(Block):
    """A table of texts. The first column names the rows."""

    template = "table"
    caption: str  # the caption
    header: Sequence[str]  # the name of each column
    rows: Sequence[Sequence[str]]  # the texts of each row
    numeric: Sequence[bool] = ()  # for each column: True if it is flush right; empty if all are flush left
    folded: bool = False  # True if the reader has to unfold the table
    # The text of a cell -> its style, `good`, `warning` or `problem`. Other cells have none.
    styles: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Charts(Block):
    """Charts, which the script draws when they come into view."""

    template = "charts"
    name: str  # the key of the charts in the data of the page
    title: str = ""  # the title above the charts; empty if the section has no other charts


@dataclass(frozen=True, slots=True, kw_only=True)
class TimesTable(Block):
    """The table of times by size, with all arms and timings side by side, which the script makes of charts."""

    template = "times"
    charts: str  # the key of the charts in the data of the page
    emphasised: bool  # True if the smallest time of each size and timing is bold


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers(Block):
    """The table of all numbers, which the script makes of the page's data."""

    template = "numbers"
    name: str  # the name of the file to download


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A section of the page."""

    identifier: str  # the target of links to the section
    title: str  # the heading, also in the navigation
    blocks: Sequence[Block]  # the content


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A whole page."""

    title: str  # the title of the window
    heading: str  # the heading at the top
    subtitle: str  # what was measured, and when; empty if the heading says so
    sections: Sequence[Section]  # the content from top to bottom
    arms: Sequence[ChartArm] = ()  # the arms that the reader can switch on and off
    kinds: Sequence[str] = ()  # the kinds of cases of which the reader chooses one
    data: Mapping[str, object] = field(default_factory=dict)  # what the script draws; plain data without NaN


def render(page: Page) -> str:
    """Return the page as HTML. All texts are escaped, and only the scripts of this package can run."""
    # jinja2 is imported here, because a command that prints no page does not need it.
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("nccl_bench.report.html", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_visible,
    )
    environment.filters["whole_units"] = _whole_units
    # Nothing of a record is in these files, so they are not escaped.
    scripts = [Markup(_asset(_LIBRARY)), Markup(_own_script())]
    styles, licenses = ([Markup(_asset(name)) for name in names] for names in (_STYLES, _LICENSES))
    return environment.get_template("page.html").render(
        page=page,
        data=Markup(script_json(page.data)),
        scripts=scripts,
        styles=styles,
        licenses=licenses,
        script_hashes=[_hash(script) for script in scripts],
    )


def _visible(value: object) -> object:
    """Return a text with escapes for invisible characters; scripts and styles stay as they are."""
    return visible(value) if type(value) is str else value


def _whole_units(text: str) -> str:
    """Return ``text`` so that no line break separates a number from its unit."""
    return _UNITS.sub("\N{NO-BREAK SPACE}", text)


def _own_script() -> str:
    """Return the parts of the page's script as one function, so that its names are not visible outside."""
    return "\n".join(['"use strict";\n(() => {', *map(_asset, _PARTS), "})();"])


def _asset(name: str) -> str:
    return (resources.files("nccl_bench.report.html") / "assets" / name).read_text(encoding="utf-8").strip()


def _hash(text: str) -> str:
    """Return the source expression by which a content security policy allows the script ``text``."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
