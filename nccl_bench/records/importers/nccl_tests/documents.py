"""The JSON documents of nccl-tests in a file: the whole file, or parts of a log."""

import json
import re

from nccl_bench.errors import RecordError
from nccl_bench.records.decoding import parse_json
from nccl_bench.records.importers.nccl_tests.document import read_document
from nccl_bench.records.importers.nccl_tests.output import Output

# The first keys of a document, as nccl-tests writes them.
_BEGINNING = re.compile(r'\{\s*"version"\s*:\s*[0-9]+\s*,\s*"start_time"')


_KEY_OF_A_DOCUMENT = re.compile(r'"nccl_version"\s*:\s*[0-9]+')


def documents_in(text: str, collective: str | None) -> tuple[list[Output], str]:
    """Return the content of each JSON document of nccl-tests in ``text``, and the text between the documents.

    Raises ``RecordError`` if a document is cut, or if its lines have a prefix.
    """
    starts = [match.start() for match in _BEGINNING.finditer(text)]
    if not starts and text.lstrip().startswith("{"):
        starts = [text.index("{")]
    elif not starts and _KEY_OF_A_DOCUMENT.search(text):
        raise RecordError(
            "it holds JSON of nccl-tests whose lines have a prefix, or whose beginning is missing: remove the prefix, "
            "or give the whole file"
        )
    outputs: list[Output] = []
    rest, end = "", 0
    for start in starts:
        # A document can hold the text of another one, for example in a variable of the environment.
        if start < end:
            continue
        rest += text[end:start]
        end = _end(text, start)
        # Put empty lines in its place, so that the lines behind it keep their line numbers.
        rest += "\n" * text.count("\n", start, end)
        output = read_document(parse_json(text[start:end]), collective)
        if output is not None:
            outputs.append(output)
    return outputs, rest + text[end:]


def _end(text: str, start: int) -> int:
    """Return the end of the document that begins at ``start``."""
    try:
        return json.JSONDecoder().raw_decode(text, start)[1]
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
            raise RecordError("not JSON: the text ends in the middle of the document; give the whole file") from error
        if "escape" in error.msg:
            raise RecordError(
                f"not JSON: {error}. A name, such as a Windows path, has a single backslash: write two backslashes"
            ) from error
        raise RecordError(
            f"not JSON: {error}. A document in a log has to be without the prefix of its lines"
        ) from error
    except (RecursionError, ValueError):
        # `parse_json` raises the error of this document.
        return len(text)
