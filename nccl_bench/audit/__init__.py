"""Stream order by construction: finds accesses to memory that nothing orders, from what the host asks for.

``watch`` and ``declare_effects`` are imported when they are first used, because they import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nccl_bench.audit.sources.effects import declare_effects
    from nccl_bench.audit.watching import Watch, watch

__all__ = ["Watch", "declare_effects", "watch"]

_MODULES = {"Watch": "watching", "declare_effects": "sources.effects", "watch": "watching"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
