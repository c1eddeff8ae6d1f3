"""Watches the launches of Triton kernels."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, ClassVar

from torch import Tensor

from nccl_bench.audit.sources.base import Replacements, Source
from nccl_bench.audit.sources.effects import declared_effects
from nccl_bench.audit.sources.feed import Feed
from nccl_bench.audit.sources.memory import Memory
from nccl_bench.audit.sources.model import DeviceModel
from nccl_bench.audit.sources.ranges import Touched

_MODULE = "triton.runtime.jit"


class TritonSource(Source):
    """Watches ``triton.jit`` functions. Without a declaration, their tensors count as read and written."""

    name: ClassVar[str] = "Triton kernels"
    sees: ClassVar[str] = "launches of triton.jit functions, with the tensors among their arguments"
    blind_to: ClassVar[tuple[str, ...]] = (
        "Which tensors a kernel only reads; nccl_bench.audit.declare_effects declares them.",
        "Tensors that a kernel reaches by a raw pointer or beyond the view that it was given.",
    )

    def __init__(self, feed: Feed, model: DeviceModel, memory: Memory) -> None:
        self._feed = feed
        self._model = model
        self._memory = memory
        self._replacements = Replacements()

    def refusal(self) -> str | None:
        try:
            module = import_module(_MODULE)
        except ImportError as error:
            return f"Triton cannot be imported: {error}"
        kind = getattr(module, "JITFunction", None)
        return None if hasattr(kind, "run") else f"this Triton has no {_MODULE}.JITFunction.run"

    def start(self) -> None:
        self._replacements.replace(sys.modules[_MODULE].JITFunction, "run", self._watched)

    def stop(self) -> None:
        self._replacements.restore()

    def _watched(self, run: Callable[..., Any]) -> Callable[..., Any]:
        def watched(kernel: Any, *args: Any, **kwargs: Any) -> Any:
            result = run(kernel, *args, **kwargs)
            if not kwargs.get("warmup"):
                self._launched(kernel, args, kwargs)
            return result

        return watched

    def _launched(self, kernel: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        name = kernel.fn.__name__
        declared = declared_effects(name)
        reads: list[Tensor] = []
        writes: list[Tensor] = []
        for argument, value in _named(kernel, args, kwargs):
            if not isinstance(value, Tensor) or not self._model.holds(value):
                continue
            self._memory.note(value)
            if declared is None or argument in declared.writes:
                writes.append(value)
            elif declared.reads is None or argument in declared.reads:
                reads.append(value)
        if reads or writes:
            stream = self._model.current_stream((reads + writes)[0])
            touched = Touched.of(reads, writes)
            self._feed.put(self._feed.launched(f"triton::{name}", stream, touched, self._feed.stack()))


def _named(kernel: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from zip(kernel.arg_names, args, strict=False)
    yield from kwargs.items()
