"""From what a user's target names to the object whose methods are called, made if need be and switched on."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch.distributed as dist

from nccl_bench.communicators.base import Switch
from nccl_bench.config.user_arms import Adapter
from nccl_bench.errors import SetupError
from nccl_bench.transports.device import Device
from nccl_bench.user_arms import signatures
from nccl_bench.user_arms.operations import FORMS, Operation

_ENDS = ("close", "destroy", "shutdown")


def methods_of(thing: object) -> dict[str, Operation]:
    """The methods of a user's object that have the names of our operations."""
    named = {name: getattr(thing, name, None) for name in (*FORMS, "group_start", "group_end")}
    return {name: method for name, method in named.items() if callable(method)}


def make(found: Any, group: dist.ProcessGroup, device: Device, adapter: Adapter | None) -> tuple[Any, str]:
    """The object whose methods are called, and in words where it is from.

    A class makes it, and so does a function, unless that takes one tensor only: then it is itself the all-reduce. Of a
    function whose signature says nothing ``adapter`` tells. What makes it is called with ``group`` and ``device``, by
    name where both have that name and by position else. ``device`` is a ``torch.device``; it is nccl_bench's ``Device``
    where it is annotated so, or not annotated at all in a class derived from one of ours.
    """
    is_class = isinstance(found, type)
    if not callable(found) or (not is_class and methods_of(found)):
        return found, "a ready object"
    if not is_class and adapter in (None, Adapter.CALLABLE) and signatures.is_operation(found):
        return found, "a function"
    if adapter is Adapter.CALLABLE and signatures.is_unreadable(found):
        return found, "a function whose signature cannot be read"
    parameters = signatures.signature_of(found).parameters
    given = device if _wants_ours(found) else device.streams.device
    arguments: tuple[Any, ...] = (group, given)
    keywords: dict[str, Any] = {}
    if {"group", "device"} <= parameters.keys() and signatures.takes(found, group=group, device=given):
        arguments, keywords = (), {"group": group, "device": given}
    if not signatures.takes(found, *arguments, **keywords):
        raise SetupError(
            f"{signatures.written(found)} cannot be called: a communicator is made from (group, device), and an "
            "all-reduce takes (tensor)"
        )
    made = found(*arguments, **keywords)
    if made is None:
        raise SetupError(f"{signatures.written(found)} returned None: it has to return the communicator it makes")
    return made, "made from (group, device)"


def _wants_ours(found: Any) -> bool:
    parameters = signatures.signature_of(found).parameters
    device = parameters.get("device") or next(iter(signatures.positional(found)[1:]), None)
    if device is None or device.annotation is device.empty:
        return isinstance(found, type) and issubclass(found, Switch)
    if not isinstance(device.annotation, str):
        return device.annotation is Device
    # A name may be known to type checkers alone, and then it is taken for ours.
    defined: Any = getattr(found, "__init__") if isinstance(found, type) else found  # noqa: B009 - mypy's objection
    known = getattr(defined, "__globals__", {})
    return device.annotation.rpartition(".")[2] == "Device" and known.get("Device", Device) is Device


def switch_on(made: Any, world_size: int, closing: ExitStack) -> None:
    """Enable ``made`` until ``closing`` closes; raises ``SetupError`` where it is not available at all."""
    if not getattr(made, "available", True):
        raise SetupError(
            f"{signatures.name_of(made)} is not available (its `available` is False, the group has {world_size} "
            f"rank{'s' * (world_size != 1)}): such communicators need two ranks and their library"
        )
    if not getattr(made, "disabled", False):
        return
    change_state = getattr(made, "change_state", None)
    if change_state is None:
        made.disabled = False
    else:
        closing.enter_context(change_state(True))
    if made.disabled:
        raise SetupError(f"{signatures.name_of(made)} is still disabled inside its change_state(True)")


def end_of(made: Any) -> Operation | None:
    """The user's own way to end it, if there is one."""
    methods = (getattr(made, name, None) for name in _ENDS)
    return next((method for method in methods if callable(method) and signatures.takes(method)), None)
