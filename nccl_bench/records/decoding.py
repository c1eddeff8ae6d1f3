"""Reads text, JSON and typed values. The error for a wrong value is one line that shows the value.

The annotations of a dataclass are the definition of its JSON. No library does all this: messages of msgspec do not show
the refused value, cattrs converts values that should be refused, and pydantic takes 45 ms to import. For speed, the
module ``reading`` tries msgspec first.
"""

import json
import math
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache, partial
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, NoReturn, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

from nccl_bench.catalog.bounds import LARGEST, Bounds
from nccl_bench.errors import RecordError
from nccl_bench.safety.plain_data import DEEPEST, refuse_unbounded, shown_key
from nccl_bench.safety.regular_files import MOST_BYTES_OF_TEXT, read_regular

# The most bytes of one JSON value. The lists and objects of a longer value could fill the memory.
MOST_BYTES_OF_JSON = 8 * 1024**2
_TYPE_NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}
# The function takes a JSON value and its path for messages, and raises RecordError if the value is wrong.
_Decoder = Callable[[object, str], Any]


def read_text(file: Path) -> str:
    """Return the text of ``file``; raise ``RecordError`` if the file cannot be read, is too large or is not UTF-8."""
    try:
        return read_regular(file, MOST_BYTES_OF_TEXT).decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise RecordError(f"{file} cannot be read: {reason}") from error


def parse_json(text: str) -> object:
    """Return the value of ``text``, which is within the limits of plain data.

    Raises ``RecordError`` for NaN, infinity, anything else that is not JSON, and JSON beyond the limits.
    """
    if len(text) > MOST_BYTES_OF_JSON:
        raise RecordError(f"it has {len(text):,} characters of JSON, and the most are {MOST_BYTES_OF_JSON:,}")
    try:
        value: object = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise RecordError(f"it is nested more than {DEEPEST} levels deep") from error
    except ValueError as error:
        raise RecordError(f"not JSON: {error}") from error
    try:
        refuse_unbounded(value)
    except ValueError as error:
        raise RecordError(str(error)) from error
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def decode(expected: Any, value: object, where: str) -> Any:
    """Return ``value``, which is parsed JSON, as the type ``expected``.

    ``expected`` is a dataclass, a ``TypedDict``, a ``StrEnum``, ``tuple[X, ...]``, ``list[X]``, ``dict[str, X]``, a
    plain type, ``Annotated`` with ``Bounds``, or ``X | None`` for one of these. A ``TypedDict`` keeps unknown fields.
    Raises ``RecordError`` with ``where``, the value and what is allowed.
    """
    return _decoder(expected)(value, where)


def shown(value: object) -> str:
    """Return ``value`` as JSON for a message: on one line, shortened."""
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


@cache
def _decoder(expected: Any) -> _Decoder:
    """Return the function that decodes ``expected``. Each function is made once and kept, for speed."""
    if get_origin(expected) is NotRequired:
        return _decoder(get_args(expected)[0])
    if get_origin(expected) in (Union, UnionType):
        (option,) = (option for option in get_args(expected) if option is not type(None))
        return partial(_decode_optional, _decoder(option))
    if get_origin(expected) is Annotated:
        plain, bounds = get_args(expected)
        return partial(_decode_bounded, _decoder(plain), bounds)
    if get_origin(expected) in (tuple, list):
        return partial(_decode_list, get_origin(expected), get_args(expected)[0])
    if get_origin(expected) is dict:
        return partial(_decode_mapping, _decoder(get_args(expected)[1]))
    if is_typeddict(expected):
        hints = get_type_hints(expected, include_extras=True)
        return partial(_decode_open, {name: _decoder(hint) for name, hint in hints.items()}, expected.__required_keys__)
    if is_dataclass(expected):
        hints = get_type_hints(expected, include_extras=True)
        decoders = {field.name: _decoder(hints[field.name]) for field in fields(expected)}
        required = {field.name for field in fields(expected) if field.default is MISSING}
        return partial(_decode_dataclass, expected, decoders, required)
    if isinstance(expected, type) and issubclass(expected, StrEnum):
        return partial(_decode_enum, {member.value: member for member in expected})
    return _decode_any if expected in (Any, object) else partial(_decode_plain, expected)


def _decode_optional(decoder: _Decoder, value: object, where: str) -> Any:
    return None if value is None else decoder(value, where)


def _decode_dataclass(
    expected: Any, decoders: Mapping[str, _Decoder], required: Collection[str], value: object, where: str
) -> Any:
    if not isinstance(value, dict):
        raise RecordError(f"{where} is {shown(value)}: it has to be an object")
    for name in decoders:
        if name in required and name not in value:
            raise RecordError(f"{where} has no {name!r}")
    for name in value:
        if name not in decoders:
            raise RecordError(f"{where} has the unknown field {shown(name)}")
    return expected(**{name: decoders[name](item, f"{where}.{name}") for name, item in value.items()})


def _decode_any(value: object, _where: str) -> Any:
    return value


def _decode_bounded(decoder: _Decoder, bounds: Bounds, value: object, where: str) -> Any:
    decoded = decoder(value, where)
    if not bounds.contain(decoded):
        raise RecordError(f"{where} is {shown(value)}: {bounds.text}")
    return decoded


def _decode_mapping(decoder: _Decoder, value: object, where: str) -> Any:
    if not isinstance(value, dict):
        raise RecordError(f"{where} is {shown(value)}: it has to be an object")
    return {name: decoder(item, f"{where}.{shown_key(name)}") for name, item in value.items()}


def _decode_open(decoders: Mapping[str, _Decoder], required: Collection[str], value: object, where: str) -> Any:
    if not isinstance(value, dict):
        raise RecordError(f"{where} is {shown(value)}: it has to be an object")
    prefix = f"{where}." if where else ""
    known = {
        name: decoder(value.get(name), f"{prefix}{name}")
        for name, decoder in decoders.items()
        if name in value or name in required
    }
    return {**value, **known}


def _decode_list(kind: type, item: Any, value: object, where: str) -> Any:
    if not isinstance(value, list):
        raise RecordError(f"{where} is {shown(value)}: it has to be a list")
    decoder = _decoder(item)
    return kind(decoder(entry, f"{where}[{index}]") for index, entry in enumerate(value))


def _decode_enum(members: Mapping[str, StrEnum], value: object, where: str) -> Any:
    if not isinstance(value, str) or value not in members:
        raise RecordError(f"{where} is {shown(value)}: known are {', '.join(members)}")
    return members[value]


def _decode_plain(expected: type, value: object, where: str) -> Any:
    if expected is float and type(value) is int and abs(value) <= sys.float_info.max:
        return float(value)
    if expected is int and type(value) is int and abs(value) > LARGEST:
        raise RecordError(f"{where} is {shown(value)}: it has to be between -2^63 and 2^63")
    if type(value) is not expected:
        raise RecordError(f"{where} is {shown(value)}: it has to be {_TYPE_NAMES[expected]}")
    # Standard JSON has no infinity, but Python reads 1e999 as infinity.
    if isinstance(value, float) and not math.isfinite(value):
        raise RecordError(f"{where} is {shown(value)}: it has to be finite")
    return value
