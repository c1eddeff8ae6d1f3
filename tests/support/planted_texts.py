"""Texts with every trick that a reader could obey, and for each reader what it would obey in an output."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

from markdown_it import MarkdownIt

# What counts at the start of a text, of a line or of a cell.
AT_START: Mapping[str, str] = {
    "formula": "=HYPERLINK(1)",
    "sum": "+1+cmd|' /C calc'!A0",
    "difference": "-2+3",
    "function": "@SUM(1)",
    "tab before a formula": "\t=1+1",
    "carriage return before a formula": "\r=1+1",
    "wide formula": "\uff1d1+1",
    "workflow command": "::error::planted",
    "indented workflow command": "  ::add-mask::planted",
    "heading": "# planted",
    "quote": ">planted",
    "rule": "---",
    "list": "1. planted",
    "fence": "```planted",
    "cell": "| planted | planted |",
}
# What counts anywhere.
ANYWHERE: Mapping[str, str] = {
    "colour": "\x1b[31;1mplanted",
    "erased screen": "\x1b[2J\x1b[H",
    "terminal link": "\x1b]8;;https://planted.example\x1b\\planted\x1b]8;;\x1b\\",
    "clipboard": "\x1b]52;c;cGxhbnRlZA==\x07",
    "title": "\x1b]0;planted\x07",
    "C1 sequences": "\x9b31m\x9d0;planted\x9c\x90planted\x9c",
    "direction": "\u202egnp.planted\u2066\u200f",
    "invisible characters": "\u200b\ufeff\u2028\u2029\x7f\xad",
    "half a character": "\udc9b31m",
    "carriage return": "planted\rnccl-bench: forged",
    "line": "planted\nnccl-bench: forged\n::error::planted\n  ::warning::planted\n\n# planted\n\n---\n",
    "older workflow command": "##[error]planted",
    "Markdown link": "[planted](https://planted.example) <https://planted.example>",
    "bare addresses": "https://planted.example www.planted.example",
    "Markdown image": "![planted](https://planted.example/a.png)",
    "Markdown marks": "*planted* __planted__ ~~planted~~ a|b|c `a|b` ``planted` $planted$ [^1] \\",
    "HTML in code": "`a\\|<img src=planted onerror=planted>` ```<img src=planted>``",
    "mention": "@planted planted@planted.example #123",
    "entity": "&lt;planted&gt; &#64;planted &#x202e;",
    "HTML": "<img src=planted onerror=planted()><a href='javascript:planted()'>planted</a><planted>",
    "script": "</script><script>planted()</script></title></style></textarea><!--<script>",
    "attribute": "\" onmouseover=\"planted()\" x='' onfocus='planted()' autofocus",
    "template": "{{ 7 * 191 }}{% raw %}",
    "picture": "]]></text><a href='https://planted.example'/><foreignObject/><svg onload='planted()'>",
    "formula behind a semicolon": "planted;=1+1; @SUM(1)",
    "quotation marks": "\"planted\",=1+1,'planted'",
    "rich's marks": "[link=https://planted.example]planted[/link] [red]planted[/red] [/] [bold",
}
# Each text begins with another trick and has all the others.
PLANTED: Mapping[str, str] = {name: f"{start} {' '.join(ANYWHERE.values())}" for name, start in AT_START.items()} | {
    "tricks alone": "\n".join(ANYWHERE.values())
}

_OWN_COMMAND = re.compile(r"::(error|warning|notice) title=nccl-bench(%3A \w+)?::")
# All colours but the planted one.
_COLOURS = re.compile("\x1b\\[(?!31;1m)[0-9;]*m")
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_MARKDOWN_TAGS = {
    *(
        "p",
        "strong",
        "ul",
        "ol",
        "li",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "details",
        "summary",
        "code",
        "pre",
    ),
}
_PAGE_TAGS = {
    *("html", "head", "meta", "title", "style", "body", "a", "header", "div", "p", "button", "h1", "h2", "h3", "nav"),
    *("label", "select", "option", "fieldset", "legend", "main", "noscript", "section", "ul", "li", "dl", "dt", "dd"),
    *("details", "summary", "table", "caption", "thead", "tbody", "tr", "th", "td", "code", "span", "footer", "pre"),
    "script",
}
_PICTURE_TAGS = {"svg", "title", "desc", "style", "rect", "text", "path", "line", "g", "circle", "polygon"}


def obeyed(output: str) -> Iterator[str]:
    """Yield what a terminal, a reader or GitHub would obey in ``output``, whatever its format is."""
    for letter in sorted({*output}):
        if unicodedata.category(letter) in _HIDDEN and letter != "\n":
            yield f"the character {letter!r}"
    for line in output.split("\n"):
        if line.lstrip().startswith("::") and not _OWN_COMMAND.match(line):
            yield f"the workflow command {line[:80]!r}"
        if "##[" in line:
            yield f"the older workflow command in {line[:80]!r}"


def obeyed_as_messages(stderr: str) -> Iterator[str]:
    """Yield what somebody would obey in messages, and messages that the tool did not write."""
    # In GitHub Actions, Typer colours its own messages.
    yield from obeyed(_COLOURS.sub("", stderr))
    yield from ("a forged message" for line in stderr.split("\n") if line.startswith("nccl-bench: forged"))


def obeyed_in_markdown(output: str) -> Iterator[str]:
    """Yield what GitHub would make of marks in names."""
    yield from obeyed(output)
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    page = _Tags()
    page.feed(reader.render(output))
    yield from (f"the tag {tag!r}" for tag in page.tags if tag not in _MARKDOWN_TAGS)
    yield from (f"the attribute {name}={value!r}" for name, value in page.attributes if name not in ("class", "style"))
    # Without this rule, a character behind a backslash is a token of its own. GitHub leaves such characters and code
    # alone.
    for block in reader.disable("text_join").parse(output):
        for text in (token.content for token in block.children or () if token.type == "text"):
            yield from (f"{link!r} in {text[:80]!r}" for link in re.findall(r"://|\bwww\.|[@#]\w+|\$", text))
    for block in re.findall(r"(?m)(?:^\| .*\n)+", output):
        if len({line.replace("\\|", "").count("|") for line in block.splitlines()}) > 1:
            yield f"a cell of {block[:80]!r}"


def obeyed_in_csv(output: str) -> Iterator[str]:
    """Yield what a spreadsheet would take as a formula."""
    yield from obeyed(output)
    header, *rows = csv.reader(io.StringIO(output), strict=True)
    for row in (header, *rows):
        if len(row) != len(header):
            yield f"a cell of {row}"
        for cell in row:
            for part in cell.split(";"):
                if re.match(r"\s*[=+@\uff0b\uff1d\uff20\uff0d-]", part) and not re.fullmatch(r"-[\d.e+-]+", cell):
                    yield f"the formula {part[:80]!r}"


def obeyed_in_json(output: str) -> Iterator[str]:
    """Yield what a terminal would obey; a program gets the exact texts."""
    yield from obeyed(output)
    if not output.isascii():
        yield "a character that is not in ASCII"
    json.loads(output)


def obeyed_in_page(output: str) -> Iterator[str]:
    """Yield elements and attributes of a page that are not its own."""
    yield from obeyed(output)
    page = _Tags()
    page.feed(output)
    yield from (f"the tag {tag!r}" for tag in page.tags if tag not in _PAGE_TAGS)
    yield from (f"the attribute {name}={value!r}" for name, value in page.attributes if name.startswith("on"))
    yield from (f"the link {value!r}" for name, value in page.attributes if name == "href" and value[:1] != "#")
    yield from (f"the source {value!r}" for name, value in page.attributes if name == "src")
    if page.tags.count("script") != 3:
        yield "a script"
    shown = [*page.texts, *(value for _, value in page.attributes), *_texts_of(json.loads(page.data))]
    yield from (f"{what} in the page" for text in shown for what in obeyed(text) if what.startswith("the character"))
    if any("1337" in text for text in page.texts):
        yield "a template"


def obeyed_in_picture(output: str) -> Iterator[str]:
    """Yield elements and attributes of a picture that are not its own."""
    yield from obeyed(output)
    for element in ElementTree.fromstring(output).iter():
        tag = element.tag.rpartition("}")[2]
        if tag not in _PICTURE_TAGS:
            yield f"the tag {tag!r}"
        yield from (f"the attribute {name!r}" for name in element.attrib if name.startswith("on") or "href" in name)
        for text in (element.text or "", *element.attrib.values()):
            yield from (what for what in obeyed(text) if what.startswith("the character"))


# The format of an output -> what its reader would obey.
READERS: Mapping[str, Callable[[str], Iterator[str]]] = {
    "terminal": obeyed,
    "markdown": obeyed_in_markdown,
    "csv": obeyed_in_csv,
    "json": obeyed_in_json,
    "bencher": obeyed_in_json,
    "perfetto": obeyed_in_json,
    "html": obeyed_in_page,
    "svg": obeyed_in_picture,
}


class _Tags(HTMLParser):
    """The tags, attributes and texts of a page, as a browser reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.data = ""
        self._is_data = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self._is_data = tag == "script" and ("id", "data") in attrs

    def handle_data(self, data: str) -> None:
        if self._is_data:
            self.data += data
        elif self.cdata_elem is None:
            self.texts.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._is_data = False


def _texts_of(data: Any) -> Iterator[str]:
    if isinstance(data, Mapping):
        for name, value in data.items():
            yield from (name, *_texts_of(value))
    elif isinstance(data, list):
        for value in data:
            yield from _texts_of(value)
    elif isinstance(data, str):
        yield data
