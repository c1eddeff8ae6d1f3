"""Mirrors of the classes that define records, as types of msgspec.

msgspec does not know ``Bounds``. It also ignores unknown fields of a dataclass, but such a record has to be refused.
"""

from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, NotRequired, TypedDict, Union, get_args, get_origin, get_type_hints, is_typeddict

import msgspec

from nccl_bench.catalog.bounds import Bounds

# Returns the meaning of a field: the arguments are the class and the name of the field.
Describe = Callable[[type, str], str]


@cache
def mirror(kind: Any, describe: Describe | None = None, *, raw: frozenset[str] = frozenset()) -> type[msgspec.Struct]:
    """Return the class that msgspec decodes for the dataclass ``kind``. It refuses unknown fields.

    The fields in ``raw`` keep their JSON. With ``describe``, the fields have descriptions.
    """
    hints = get_type_hints(kind, include_extras=True)
    members: list[Any] = []
    for field in fields(kind):
        hint = msgspec.Raw if field.name in raw else _field(kind, field.name, hints[field.name], describe)
        members.append((field.name, hint, *(() if field.default is MISSING else (field.default,))))
    tag = getattr(kind, "kind", None)
    tagging = {"tag_field": "kind", "tag": tag} if isinstance(tag, str) else {}
    return msgspec.defstruct(
        kind.__name__,
        members,
        namespace={"__doc__": kind.__doc__},
        kw_only=True,
        forbid_unknown_fields=True,
        **tagging,  # type: ignore[arg-type]  # the names of two options
    )


@cache
def mirror_open(kind: Any, describe: Describe | None = None) -> Any:
    """Return the ``TypedDict`` that msgspec decodes for ``kind``. It accepts unknown fields."""
    members: dict[str, Any] = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        required, plain = name in kind.__required_keys__, get_args(hint)[0] if get_origin(hint) is NotRequired else hint
        mirrored = _field(kind, name, plain, describe)
        members[name] = mirrored if required else NotRequired[mirrored]
    mirrored_kind = TypedDict(kind.__name__, members)  # type: ignore[misc]  # made while the program runs
    mirrored_kind.__doc__ = kind.__doc__
    return mirrored_kind


def _field(kind: type, name: str, hint: Any, describe: Describe | None) -> Any:
    mirrored = _mirrored(hint, describe)
    return Annotated[mirrored, msgspec.Meta(description=describe(kind, name))] if describe else mirrored


def _mirrored(hint: Any, describe: Describe | None) -> Any:
    """Return the type ``hint`` with bounds in the form of msgspec, and with mirrors of the classes in it."""
    origin, options = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds: Bounds = options[1]
        if bounds.longest is not None:
            meta = msgspec.Meta(max_length=bounds.longest)
        else:
            meta = msgspec.Meta(ge=bounds.least, le=bounds.most)
        return Annotated[_mirrored(options[0], describe), meta]
    if origin is tuple:
        return tuple[_mirrored(options[0], describe), ...]  # type: ignore[misc]  # made while the program runs
    if origin in (list, dict):
        return origin[tuple(_mirrored(option, describe) for option in options)]
    if origin in (Union, UnionType):
        return Union[tuple(_mirrored(option, describe) for option in options)]  # noqa: UP007 - made while it runs
    if is_typeddict(hint):
        return mirror_open(hint, describe)
    return mirror(hint, describe) if isinstance(hint, type) and is_dataclass(hint) else hint
