"""Calls of methods that take a list of tensors instead of one tensor."""

from collections.abc import Callable, Mapping
from functools import partial, update_wrapper
from typing import Any

import torch


class ListCall:
    """A call that splits some of its tensors into lists of blocks.

    The blocks are views of the tensor, so the method reads and writes the tensor itself.
    """

    def __init__(self, call: Callable[..., Any], parts: Mapping[int, int], *, root: int | None, rank: int) -> None:
        """Split arguments of ``call``: ``parts`` maps the position of an argument to its number of blocks.

        If only the root passes lists, ``root`` is the position of the argument with the root's rank. Every other rank
        then passes ``None`` instead of a list. ``rank`` is this rank.
        """
        self._call = call
        self._parts = parts
        self._root, self._rank = root, rank
        update_wrapper(self, call, assigned=("__qualname__",), updated=())

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Split the tensors, then call the method."""
        return self._call(*self._split(arguments), **options)

    def bind(self, *arguments: Any, **options: Any) -> Callable[[], Any]:
        """Split ``arguments`` now, and return the call with the lists. A timed call then splits nothing."""
        return partial(self._call, *self._split(arguments), **options)

    def around(self, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> "ListCall":
        """Return a call that splits the same arguments, but calls ``wrap(method)`` instead of the method."""
        return ListCall(wrap(self._call), self._parts, root=self._root, rank=self._rank)

    def _split(self, arguments: tuple[Any, ...]) -> list[Any]:
        split = list(arguments)
        for place, parts in self._parts.items():
            has_list = self._root is None or arguments[self._root] == self._rank
            split[place] = list(torch.chunk(arguments[place], parts)) if has_list else None
        return split
