"""Reports: one ``Report`` for each format and content.

A report turns data into text. A report opens no file, reads no option and prints nothing. This module does
not import rich, which loads slowly: each module below imports what its report needs.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

# The width of the table of a verification, with the longest folded arm name and the longest probe name.
NARROWEST_VERIFICATION = 23
# The width of the report of `doctor`: the longest name of a subject, and half a sentence.
NARROWEST_EXAMINATION = 40
# The width of the first three columns of the messages of a recording.
NARROWEST_TRAFFIC = 50

# The width of the report of an audit: the name of an access, and a place.
NARROWEST_AUDIT = 40


class Format(StrEnum):
    """The formats in which a command prints its result."""

    TERMINAL = "terminal"
    MARKDOWN = "markdown"
    CSV = "csv"
    JSON = "json"
    HTML = "html"
    SVG = "svg"
    BENCHER = "bencher"
    PERFETTO = "perfetto"


# The formats that print tables of anything.
TABLE_FORMATS = (Format.TERMINAL, Format.MARKDOWN, Format.CSV, Format.JSON)

# The formats that print a comparison of runs. A timeline has one run.
COMPARISON_FORMATS = tuple(each for each in Format if each is not Format.PERFETTO)

# The formats that print a verification.
VERIFICATION_FORMATS = (*TABLE_FORMATS, Format.HTML)

# The formats that print an audit.
AUDIT_FORMATS = (Format.TERMINAL, Format.MARKDOWN, Format.JSON, Format.HTML)


class Detail(StrEnum):
    """The amount of text that a terminal gets."""

    QUIET = "quiet"  # the headline alone
    USUAL = "usual"  # the headline, the table of the question, the verdicts about it, and remarks
    FULL = "full"  # everything


Content = TypeVar("Content")
# A function from content (an analysis, a verification, or sections of a listing) to text that ends in a newline.
Report = Callable[[Content], str]
