"""The protocol of all sources, and the attributes that they replace while they watch."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, ClassVar, Protocol


class Source(Protocol):
    """Watches one way in which programs use a device. It is switched on if its library can be loaded."""

    name: ClassVar[str]  # as the report shows it
    sees: ClassVar[str]  # what it watches
    blind_to: ClassVar[tuple[str, ...]]  # what it cannot see, one sentence each

    def refusal(self) -> str | None:
        """Return why this source cannot watch here; None if it can."""

    def start(self) -> None:
        """Begin to watch."""

    def stop(self) -> None:
        """End the watch, and put back what was replaced."""


def living(kind: type) -> list[Any]:
    """Return the objects of a class and its subclasses that the garbage collector knows."""
    # Compare `type`: isinstance would ask lazy objects for their class, which can import modules.
    kinds = {kind, *_subclasses(kind)}
    return [each for each in gc.get_objects() if type(each) in kinds]


def _subclasses(kind: type) -> set[type]:
    direct: set[type] = set(type.__subclasses__(kind))
    return direct.union(*map(_subclasses, direct))


class Replacements:
    """Attributes that are replaced until ``restore``."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> bool:
        """Replace the attribute ``name`` of ``owner`` by ``make(attribute)``. Return False if it does not exist."""
        if not hasattr(owner, name):
            return False
        # The attribute as it is stored. pybind11 stores a method inside an object, and `getattr` returns the method.
        stored = vars(owner).get(name)
        setattr(owner, name, make(getattr(owner, name)))

        def undo() -> None:
            if stored is not None:
                setattr(owner, name, stored)
            else:
                delattr(owner, name)

        self._undo.append(undo)
        return True

    def restore(self) -> None:
        """Put back all attributes, the latest first."""
        while self._undo:
            self._undo.pop()()
