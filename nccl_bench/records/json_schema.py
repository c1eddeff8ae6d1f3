"""The JSON Schema of ``run.json`` and of the lines of ``samples.jsonl``, made from the classes that define them.

A schema cannot say everything: lists of a line have to have the same length, for example.
"""

import ast
import inspect
import io
import re
import tokenize
from functools import cache
from typing import Any, Union

from msgspec import json

from nccl_bench.records.meta import RunMeta
from nccl_bench.records.mirrors import mirror, mirror_open
from nccl_bench.records.schema import KINDS, SCHEMA

# Words of Python in comments -> words of JSON.
_JSON_WORDS = {"None": "null", "True": "true", "False": "false", "``": "`"}
_PYTHON_WORDS = re.compile(r"\b(?:None|True|False)\b|``")


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of ``run.json`` and of each line of ``samples.jsonl``."""
    lines: Any = Union[tuple(mirror(kind, _comment) for kind in KINDS.values())]  # noqa: UP007 - made while it runs
    template = "#/$defs/{name}"
    (run, line), definitions = json.schema_components((mirror_open(RunMeta, _comment), lines), ref_template=template)
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"nccl-bench record, schema {SCHEMA}",
        "description": "A run.json, or a line of samples.jsonl.",
        "anyOf": [run, {"$ref": template.format(name="Line")}],
        "$defs": {"Line": {"title": "Line", "description": "A line of samples.jsonl.", **line}, **definitions},
    }
    return independent_of_msgspec(schema)


def independent_of_msgspec(schema: dict[str, Any]) -> dict[str, Any]:
    """Return ``schema`` without the differences between versions of msgspec, so that every version gives the same.

    Version 0.23 removes the indentation of docstrings. It also writes a default that is an empty mapping.
    """
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "default" and value in ([], {}):
            continue
        if key == "description" and isinstance(value, str):
            result[key] = inspect.cleandoc(value)
        elif isinstance(value, dict):
            result[key] = independent_of_msgspec(value)
        elif isinstance(value, list):
            result[key] = [independent_of_msgspec(item) if isinstance(item, dict) else item for item in value]
        else:
            result[key] = value
    return result


def _comment(kind: type, field: str) -> str:
    """Return the comment behind or above a field of a class, with the words of JSON."""
    return _PYTHON_WORDS.sub(lambda match: _JSON_WORDS[match[0]], _comments(kind)[field])


@cache
def _comments(kind: type) -> dict[str, str]:
    """Return the comment on each field of ``kind``."""
    source = inspect.getsource(kind)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token for token in tokens if token.type == tokenize.COMMENT}
    (definition,) = ast.parse(source).body
    texts: dict[str, str] = {}
    for field in getattr(definition, "body", ()):
        if isinstance(field, ast.AnnAssign):
            first = last = field.lineno
            if last not in comments:
                last -= 1
                first = last + 1
                while (above := comments.get(first - 1)) and above.line.lstrip().startswith("#"):
                    first -= 1
            words = (comments[number].string.removeprefix("#").strip() for number in range(first, last + 1))
            texts[ast.unparse(field.target)] = " ".join(words)
    return texts
