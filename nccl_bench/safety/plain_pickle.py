"""Reads pickles of plain data: objects, lists, numbers and texts.

A pickle is a program, and Python's unpickler runs it. This module runs no pickle: it builds the data itself. It
accepts only the few instructions that plain data needs. None of these instructions names a class or makes a call.
torch's flight recorder writes its dumps as pickles.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nccl_bench.safety.plain_data import DEEPEST, refuse_unbounded

# The most bytes of a pickle. A dump of the flight recorder has a few thousand entries of a kilobyte.
MOST_BYTES_OF_PICKLE = 16 * 1024**2
# The most values in the data. A value that the pickle repeats counts once for each repetition.
_MOST_VALUES = 5_000_000


@dataclass(slots=True)
class _Builder:
    """The data that the instructions so far have built."""

    stack: list[Any] = field(default_factory=list)  # values that are not in a list, tuple or dict yet
    marks: list[int] = field(default_factory=list)  # for each open mark, the size of the stack at that mark
    memory: dict[int, Any] = field(default_factory=dict)  # values that a later instruction can repeat

    def since_mark(self) -> list[Any]:
        """Remove the values above the last mark from the stack, and return them."""
        mark = self.marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    def last(self, count: int) -> list[Any]:
        """Remove the last ``count`` values from the stack, and return them."""
        if len(self.stack) < count:
            raise ValueError("its pickle takes more values than it has")
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return values

    def extend(self, values: list[Any]) -> None:
        """Add ``values`` to the list on top of the stack."""
        if not isinstance(self.stack[-1], list):
            raise ValueError("its pickle adds to a value that is no list")
        self.stack[-1].extend(values)

    def fill(self, values: list[Any]) -> None:
        """Add ``values`` to the object on top of the stack: a name, its value, the next name, and so on."""
        if not isinstance(self.stack[-1], dict) or not all(isinstance(name, str) for name in values[::2]):
            raise ValueError("its pickle has an object with a name that is no text")
        self.stack[-1].update(zip(values[::2], values[1::2], strict=True))

    def keep(self, place: int) -> None:
        """Remember the value on top of the stack as ``place``, so that a later instruction can repeat it."""
        self.memory[place] = self.stack[-1]


def _push(builder: _Builder, argument: Any) -> None:
    builder.stack.append(argument)


def _push_object(builder: _Builder, values: list[Any]) -> None:
    builder.stack.append({})
    builder.fill(values)


# An instruction's name -> the function that does it, which takes the builder and the instruction's argument. Tuples
# become lists.
_INSTRUCTIONS: Mapping[str, Callable[[_Builder, Any], object]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda _builder, _argument: None),
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"), _push),
    **dict.fromkeys(("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"), _push),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _push),
    "NONE": lambda builder, _: builder.stack.append(None),
    "NEWTRUE": lambda builder, _: builder.stack.append(True),
    "NEWFALSE": lambda builder, _: builder.stack.append(False),
    "MARK": lambda builder, _: builder.marks.append(len(builder.stack)),
    "EMPTY_LIST": lambda builder, _: builder.stack.append([]),
    "EMPTY_TUPLE": lambda builder, _: builder.stack.append([]),
    "EMPTY_DICT": lambda builder, _: builder.stack.append({}),
    "LIST": lambda builder, _: builder.stack.append(builder.since_mark()),
    "TUPLE": lambda builder, _: builder.stack.append(builder.since_mark()),
    "TUPLE1": lambda builder, _: builder.stack.append(builder.last(1)),
    "TUPLE2": lambda builder, _: builder.stack.append(builder.last(2)),
    "TUPLE3": lambda builder, _: builder.stack.append(builder.last(3)),
    "DICT": lambda builder, _: _push_object(builder, builder.since_mark()),
    "APPEND": lambda builder, _: builder.extend(builder.last(1)),
    "APPENDS": lambda builder, _: builder.extend(builder.since_mark()),
    "SETITEM": lambda builder, _: builder.fill(builder.last(2)),
    "SETITEMS": lambda builder, _: builder.fill(builder.since_mark()),
    "MEMOIZE": lambda builder, _: builder.keep(len(builder.memory)),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Builder.keep),
    **dict.fromkeys(
        ("GET", "BINGET", "LONG_BINGET"), lambda builder, place: builder.stack.append(builder.memory[place])
    ),
}


def load_plain_pickle(content: bytes) -> Any:
    """Return the data of the pickle ``content``.

    Raises ``ValueError`` if the pickle is malformed, has an instruction that ``_INSTRUCTIONS`` lacks, or is too large.
    """
    builder = _Builder()
    try:
        for instruction, argument, _ in pickletools.genops(content):
            build = _INSTRUCTIONS.get(instruction.name)
            if build is None:
                raise ValueError(f"its pickle has the instruction {instruction.name}, and only plain data is read")
            build(builder, argument)
        (value,) = builder.stack
    except (IndexError, KeyError) as error:
        raise ValueError("its pickle takes a value that it does not have") from error
    _count_values(value, 0, {})
    refuse_unbounded(value)
    return value


def _count_values(value: Any, level: int, known: dict[int, int]) -> int:
    """Return the number of values in ``value``; raise ``ValueError`` if there are too many, or too many levels."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        if level == DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} levels deep")
        parts = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count_values(part, level + 1, known) for part in parts)
    if known[id(value)] > _MOST_VALUES:
        raise ValueError(f"it has more than {_MOST_VALUES:,} values")
    return known[id(value)]
