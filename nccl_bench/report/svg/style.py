"""The look of a picture: colours, fonts, and the mark of each line."""

from __future__ import annotations

from nccl_bench.report.charts.styles import colour_of

# The shapes around the point 0 0, from the first style to the last: the same as on the page.
MARKS = (
    "m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0z",
    "m-2.7-2.7h5.4v5.4h-5.4z",
    "m0-3.6l3.5 6h-7z",
    "m0-3.9l3.5 3.9l-3.5 3.9l-3.5-3.9z",
    "m-3.5-1.1h2.4v-2.4h2.2v2.4h2.4v2.2h-2.4v2.4h-2.2v-2.4h-2.4z",
    "m0 3.6l3.5-6h-7z",
    "m-3.2-1.8l1.4-1.4l1.8 1.8l1.8-1.8l1.4 1.4l-1.8 1.8l1.8 1.8l-1.4 1.4l-1.8-1.8l-1.8 1.8l-1.4-1.4l1.8-1.8z",
)
# The colours of the lines, the same as on the page. Each has a contrast of 3 or more with the paper.
LIGHT = (
    "#4a5560",
    "#0072b2",
    "#c24e00",
    "#00805e",
    "#b0568a",
    "#8a6a00",
    "#2b8cc4",
    "#6a4fb3",
    "#d81b60",
    "#6d4c41",
    "#1a8a99",
    "#7a7f00",
)
DARK = (
    "#b9c3cd",
    "#56b4e9",
    "#ff8a45",
    "#2fc99b",
    "#e39ac4",
    "#f0d442",
    "#8fd0ff",
    "#b7a3f5",
    "#ff6f9f",
    "#c9a08c",
    "#35c6d6",
    "#c5cc3a",
)

_SHAPES = """
text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
.title{font-size:17px}
.kind,.row,.panel{font-size:13px}
.title,.kind,.row,.panel,.problem{font-weight:600}
.frame,.grid,.reference,.line,.interval{fill:none}
.line{stroke-width:1.5;stroke-linejoin:round}
.interval{stroke-width:1.2}
"""
_SHEET = """
text{{fill:{text}}}
.quiet{{fill:{quiet}}}
.problem{{fill:{problem}}}
.paper{{fill:{paper}}}
.frame,.grid{{stroke:{grid}}}
.reference{{stroke:{quiet}}}
.threshold{{fill:{threshold}}}
.noise-floor{{fill:{floor}}}
"""
_COLOURS = {
    False: {
        "text": "#1f2328",
        "quiet": "#59636e",
        "problem": "#b42318",
        "paper": "#ffffff",
        "grid": "#d1d9e0",
        "threshold": "#c9d6e3",
        "floor": "#eceff3",
    },
    True: {
        "text": "#f0f6fc",
        "quiet": "#a8b3be",
        "problem": "#ff9b92",
        "paper": "#0d1117",
        "grid": "#39424d",
        "threshold": "#33475c",
        "floor": "#1c242d",
    },
}


def style_sheet() -> str:
    """Return the style sheet. The paper has a colour of its own, so that a picture can be read on any page."""
    return f"{_SHAPES}{_rules(LIGHT, dark=False)}@media(prefers-color-scheme:dark){{{_rules(DARK, dark=True)}}}"


def mark(style: int) -> str:
    """Return the shape of the marks of a line, as path data around the current point."""
    return MARKS[style % len(MARKS)]


def colour_class(style: int) -> str:
    """Return the name of the class that colours a line."""
    return f"c{colour_of(style)}"


def _rules(colours: tuple[str, ...], *, dark: bool) -> str:
    lines = (f".c{number}{{stroke:{colour}}}.c{number}f{{fill:{colour}}}" for number, colour in enumerate(colours))
    return _SHEET.format(**_COLOURS[dark]) + "\n".join(lines) + "\n"
