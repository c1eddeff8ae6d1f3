"""torch.compile while a program is watched: compiled functions run eagerly, so that their operators are seen.

A dispatch mode sees no operators inside compiled code. torch itself skips the compilation under such a mode, and raises
an error where the program demands it (``fullgraph=True``, flex_attention).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, ClassVar

import torch

from nccl_bench.audit.sources.base import Replacements, Source


class CompiledCodeSource(Source):
    """Sets the stance of torch.compile to "force_eager" as soon as the program uses torch.compile."""

    name: ClassVar[str] = "torch.compile"
    sees: ClassVar[str] = "compiled functions, which run eagerly while they are watched"
    blind_to: ClassVar[tuple[str, ...]] = ("Kernels that only compiled code has, and the order in which it runs them.",)

    def __init__(self) -> None:
        self._replacements = Replacements()
        self._stance: Any = None

    def refusal(self) -> str | None:
        return None if hasattr(torch.compiler, "set_stance") else f"torch {torch.__version__} cannot force eager mode"

    def start(self) -> None:
        if "torch._dynamo" in sys.modules:
            self._force_eager()
        self._replacements.replace(torch, "compile", self._watched)

    def stop(self) -> None:
        self._replacements.restore()
        if self._stance is not None:
            self._stance.__exit__(None, None, None)
            self._stance = None

    def _force_eager(self) -> None:
        if self._stance is None:
            self._stance = torch.compiler.set_stance("force_eager")
            self._stance.__enter__()

    def _watched(self, compile: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            compiled = compile(*args, **kwargs)
            self._force_eager()  # the first compilation has imported torch._dynamo, which takes seconds
            return compiled

        return watched
