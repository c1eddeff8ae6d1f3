"""The lines of a log that holds tables of nccl-tests: the prefix of every line is found and removed.

mpirun (``--tag-output``) and srun (``--label``) write a tag before each line, kubectl and Docker write a timestamp, and
people quote or indent what they paste. The settings line ``# nThread ...`` shows the prefix.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from nccl_bench.errors import RecordError
from nccl_bench.records.decoding import shown

_SETTINGS = "# nThread "
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
# The parts of a prefix that differ from line to line: dates with and without a time, times, days, and seconds. kubectl
# leaves out zeros at the end of a fraction.
_STAMPS = (
    r"[0-9]{4}[-/][0-9]{2}[-/][0-9]{2}(?:[T ][0-9:]{8}(?:[.,][0-9]+)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?",
    r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?",
    r"[A-Z][a-z]{2} +[0-9]{1,2}(?= [0-9]{2}:)",
    r"[0-9]+\.[0-9]{3,}",
)
_ANY_STAMP = re.compile("|".join(f"({stamp})" for stamp in _STAMPS))
_QUOTES = ("'", '"')
# A table has at least this many lines that begin with '#', its settings included.
_LEAST_LINES = 2


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file."""

    number: int  # the number of the line in the file, from 1
    text: str  # the text without its prefix, or the whole line if the line is `aside`
    is_whole: bool = True  # False for the last line of a file without a newline, which may be cut
    aside: bool = False  # True if the line lacks the prefix, so another process or another stream wrote it


def lines_of(text: str) -> list[Line]:
    """Return the lines of ``text`` without their prefix, escape sequences and spaces at the end.

    Raises ``RecordError`` if tables have different prefixes, or if only the settings line has the prefix.
    """
    texts = text.split("\n")
    lines = [
        Line(number, _ESCAPES.sub("", line).rstrip(), is_whole=number < len(texts))
        for number, line in enumerate(texts, 1)
    ]
    prefixes = dict.fromkeys(line.text.partition(_SETTINGS)[0] for line in lines if _SETTINGS in line.text)
    patterns = {_pattern(prefix): prefix for prefix in prefixes}
    if not patterns or list(patterns) == [_pattern("")]:
        return lines
    if len(patterns) > 1:
        shown_prefixes = " and ".join(shown(prefix) for prefix in list(patterns.values())[:2])
        raise RecordError(
            f"it has {len(patterns)} different texts before '# nThread ...', such as {shown_prefixes}: give the output "
            "of one process in each file"
        )
    ((pattern, prefix),) = patterns.items()
    stripped = list(_without(re.compile(pattern), prefix.strip()[-1:], lines))
    if sum(not line.aside and line.text.startswith("#") for line in stripped) < _LEAST_LINES:
        raise RecordError(
            f"the text {shown(prefix)} stands before '# nThread ...', and before no other line of the table: remove it"
        )
    return stripped


def _pattern(prefix: str) -> str:
    """Return the regular expression for ``prefix``, in which timestamps may have any value."""
    pattern, end = "", 0
    for stamp in _ANY_STAMP.finditer(prefix):
        assert stamp.lastindex is not None
        pattern += re.escape(prefix[end : stamp.start()]) + _STAMPS[stamp.lastindex - 1]
        end = stamp.end()
    return pattern + re.escape(prefix[end:])


def _without(pattern: re.Pattern[str], quote: str, lines: Iterable[Line]) -> Iterable[Line]:
    for line in lines:
        # An empty line of the table is only the prefix, without the spaces at its end.
        match = pattern.match(line.text) or pattern.match(f"{line.text} ")
        if match is None:
            yield replace(line, aside=bool(line.text))
            continue
        text = line.text[match.end() :]
        if quote in _QUOTES:
            text = text.removesuffix(",").removesuffix(quote)
        yield replace(line, text=text.rstrip())


def matches(pattern: re.Pattern[str], lines: Sequence[Line]) -> list[re.Match[str]]:
    """Return the matches of ``pattern`` at the beginning of ``lines``, without the lines of other processes."""
    return [match for line in lines if not line.aside and (match := pattern.match(line.text))]
