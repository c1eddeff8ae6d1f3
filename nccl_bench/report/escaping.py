"""Makes texts from elsewhere harmless: one function for each kind of reader, such as a terminal or a spreadsheet.

File names, the names of arms and hosts, and the messages of exceptions can hold anything. A terminal obeys escape
sequences, GitHub obeys Markdown and workflow commands, and a spreadsheet obeys formulas. Each function shows the
characters and takes away their effect.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# A line that begins with two colons is a workflow command of GitHub Actions. The older form counts anywhere in a line.
_COMMAND = re.compile(r"^([^\S\n]*)::|##\[", re.MULTILINE)
# A cell that begins like this is a formula in a spreadsheet. In some spreadsheets a semicolon begins a new cell.
_FORMULA = re.compile(
    "((?:^|;)\\s*)(?=[=+@\\-\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}"
    "\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}])"
)
_CODE = re.compile(r"(`[^`|]+`)")
# What Markdown takes as a mark: HTML, links, emphasis, formulas, cells, and an underscore at the edge of a word.
_MARKS = re.compile(r"[\\*<\[\]`~|$]|&(?=[#\w])|(?<![^\W_])_|_(?![^\W_])")
# GitHub makes links of bare addresses.
_ADDRESS = re.compile(r"(?=://)|(?<=\bwww)(?=\.)", re.IGNORECASE)
# GitHub notifies the people and the issues that a text mentions, unless an invisible space follows the mark.
_MENTION = re.compile(r"(@|#)(?=\w)")
_AT_START = re.compile(r"^(\d*)(>|[#+.)-](?=\s|#|$)|-(?=-)|=(?=[=\s]|$))")
_ANNOTATION: Mapping[str, str] = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_ANNOTATION_TITLE: Mapping[str, str] = {**_ANNOTATION, ":": "%3A", ",": "%2C"}

# The types of plain data that have no text.
_WITHOUT_TEXT = frozenset({float, int, bool, type(None)})


def visible(text: str) -> str:
    r"""Return ``text`` with an escape, such as ``\x1b``, for each character that a reader cannot see.

    These are control characters, characters that change the direction of text, and halves of characters. The ends of
    lines stay, and a tab becomes a space. GitHub finds no command in any line. A terminal needs no other escapes.
    Pages and pictures also need the escapes of their syntax.
    """
    if not (text.isascii() and text.isprintable()):
        text = _translated(text, _visible)
    return _COMMAND.sub(_without_command, text) if _has_command(text) else text


def visible_line(text: str) -> str:
    r"""Return ``text`` as ``visible`` does, in one line: ``\n`` stands for the end of a line."""
    return visible(text).replace("\n", r"\n")


def visible_lines(texts: Sequence[str]) -> Sequence[str]:
    """Return each of ``texts`` as ``visible_line`` does."""
    # Check all texts together first: a table can have a million texts, and they seldom need an escape.
    together = "".join(texts)
    is_plain = together.isascii() and together.isprintable() and not _has_command(together)
    return texts if is_plain else list(map(visible_line, texts))


def visible_data(data: Any) -> Any:
    """Return plain data with ``visible`` applied to each of its texts, keys included."""
    if isinstance(data, Mapping):
        return {visible_data(name): visible_data(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        # A page can have a million values. Nearly all of them are numbers. Texts repeat, so escape each text once.
        types = {*map(type, data)}
        if types <= _WITHOUT_TEXT:
            return data
        if all(issubclass(each, str) for each in types):
            texts = {text: visible(text) for text in {*data}}
            return [texts[text] for text in data]
        return [value if type(value) in _WITHOUT_TEXT else visible_data(value) for value in data]
    return visible(data) if isinstance(data, str) else data


def markdown_text(text: str) -> str:
    """Return ``text`` in one line, so that GitHub shows it as it is.

    Text between backticks stays code, unless it could divide a cell of a table. Underscores within a word are no marks.
    A number sign or another mark of a list or a heading counts only at the start.
    """
    parts = _CODE.split(visible(" ".join(text.split())))
    # Every second part is between backticks.
    escaped = [part if index % 2 else _without_marks(part) for index, part in enumerate(parts)]
    return _AT_START.sub(r"\1\\\2", "".join(escaped))


def markdown_code(text: str) -> str:
    """Return ``text`` in one line as code within a line of Markdown."""
    text = visible(" ".join(text.split()))
    fence = _fence(text, 1)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"


def markdown_block(text: str, language: str) -> Sequence[str]:
    """Return the lines of a block of code, which GitHub copies at a click."""
    fence = _fence(text, 3)
    return (f"{fence}{language}", *visible(text).splitlines(), fence)


def csv_cell(text: str) -> str:
    """Return ``text`` for a cell that any spreadsheet shows as text. An apostrophe makes a formula a text."""
    return _FORMULA.sub(r"\1'", visible_line(text))


def json_escapes(text: str) -> str:
    r"""Return the JSON document ``text`` in ASCII. It stays the same document, and a terminal obeys nothing in it."""
    text = text.replace("##[", r"#\u0023[")
    return text if text.isascii() and "\x7f" not in text else _translated(text, _json_escape)


def annotation_text(text: str) -> str:
    """Return ``text`` for the message of a workflow command of GitHub Actions. It can have several lines."""
    return visible("".join(_ANNOTATION.get(letter, letter) for letter in text))


def annotation_title(text: str) -> str:
    """Return ``text`` for the title of a workflow command of GitHub Actions."""
    return visible("".join(_ANNOTATION_TITLE.get(letter, letter) for letter in text))


def _translated(text: str, escape: Callable[[str], str]) -> str:
    """Return ``text`` with ``escape`` of each letter. Each different letter is escaped only once, for speed."""
    return text.translate({ord(letter): escape(letter) for letter in set(text)})


def _visible(letter: str) -> str:
    if letter == "\t":
        return " "
    # Python does not call a no-break space printable, but this space keeps a number and its unit on one line.
    if letter.isprintable() or letter in "\n\N{NO-BREAK SPACE}":
        return letter
    return letter.encode("unicode_escape").decode()


def _has_command(text: str) -> bool:
    """Return True if ``_COMMAND`` can match in ``text``. This is fast, and nearly every text has no command."""
    return "::" in text or "##[" in text


def _without_command(match: re.Match[str]) -> str:
    return "# #[" if match[0] == "##[" else f"{match[1]}\\::"


def _without_marks(text: str) -> str:
    text = _ADDRESS.sub(r"\\", _MARKS.sub(r"\\\g<0>", text))
    return _MENTION.sub(r"\1&#8203;", text)


def _fence(text: str, least: int) -> str:
    """Return at least ``least`` backticks, and more than ``text`` has in a row, so that it cannot end its block."""
    return "`" * max(least, 1 + max(map(len, re.findall("`+", text)), default=0))


def _json_escape(letter: str) -> str:
    if letter.isascii() and letter != "\x7f":
        return letter
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in zip(units[::2], units[1::2], strict=True))
