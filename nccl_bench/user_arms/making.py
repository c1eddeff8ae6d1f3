"""Makes the user's object from the target, enables the object, and finds the method that ends the object."""

from contextlib import ExitStack
from itertools import chain
from typing import Any

import torch.distributed as dist

from nccl_bench.catalog.arms import ENDING_METHODS
from nccl_bench.communicators.base import SwitchableCommunicator
from nccl_bench.communicators.protocol import Communicator
from nccl_bench.config.user_arms import Adapter
from nccl_bench.errors import SetupError
from nccl_bench.transports.device import Device
from nccl_bench.user_arms import signatures
from nccl_bench.user_arms.forms import METHOD_NAMES, Method


def methods_of(user_object: object) -> dict[str, Method]:
    """Return the methods of a user's object that have the names of our operations.

    Methods without a body, which a class inherits from our protocol, are left out.
    """
    names = (*chain.from_iterable(METHOD_NAMES.values()), "group_start", "group_end")
    named = {name: getattr(user_object, name, None) for name in names}
    unfilled = vars(Communicator).values()
    return {
        name: method
        for name, method in named.items()
        if callable(method) and getattr(method, "__func__", method) not in unfilled
    }


def make(value: Any, group: dist.ProcessGroup, device: Device, adapter: Adapter | None) -> tuple[Any, str]:
    """Return the object whose methods are called, and a description of its origin.

    - A ready object is returned unchanged.
    - A function of one tensor is itself the all-reduce. If its signature cannot be read, ``adapter`` decides.
    - Any other function, or a class, makes the object. The call passes ``group`` and ``device``, by name if possible.
      ``device`` is our ``Device`` if the parameter's annotation says so, or if a subclass of ours has no annotation
      for it. Otherwise ``device`` is a ``torch.device``.
    """
    is_class = isinstance(value, type)
    if not callable(value) or (not is_class and methods_of(value)):
        return value, "a ready object"
    if not is_class and adapter in (None, Adapter.CALLABLE) and signatures.is_operation(value):
        return value, "a function"
    if adapter is Adapter.CALLABLE and signatures.is_unreadable(value):
        return value, "a function whose signature cannot be read"
    device_argument = device if _wants_our_device(value) else device.streams.device
    arguments: tuple[Any, ...] = (group, device_argument)
    by_name: dict[str, Any] = {"group": group, "device": device_argument}
    if by_name.keys() <= signatures.signature_of(value).parameters.keys() and signatures.takes(value, **by_name):
        arguments = ()
    else:
        by_name = {}
    if not signatures.takes(value, *arguments, **by_name):
        raise SetupError(
            f"{signatures.signature_text(value)} cannot be called: take (group, device) to make a communicator, or "
            "(tensor) to be an all-reduce"
        )
    user_object = value(*arguments, **by_name)
    if user_object is None:
        raise SetupError(
            f"{signatures.signature_text(value)} returned None: it must return the communicator that it makes"
        )
    return user_object, "made from (group, device)"


def _wants_our_device(value: Any) -> bool:
    parameters = signatures.signature_of(value).parameters
    device = parameters.get("device") or next(iter(signatures.positional(value)[1:]), None)
    if device is None or device.annotation is device.empty:
        return isinstance(value, type) and issubclass(value, SwitchableCommunicator)
    if not isinstance(device.annotation, str):
        return device.annotation is Device
    # If only type checkers import `Device`, the globals do not have the name. `Device` then counts as our class.
    function: Any = getattr(value, "__init__") if isinstance(value, type) else value  # noqa: B009 - mypy's objection
    names = getattr(function, "__globals__", {})
    return device.annotation.rpartition(".")[2] == "Device" and names.get("Device", Device) is Device


def switch_on(user_object: Any, world_size: int, closing: ExitStack) -> None:
    """Enable ``user_object`` until ``closing`` closes; raise ``SetupError`` if it is not available.

    An engine enables its communicator by ``change_state``. Its custom all-reduces have no such method: they stay
    disabled if the machine or the group does not fit.
    """
    name = signatures.name_of(user_object)
    if not getattr(user_object, "available", True):
        raise SetupError(
            f"{name} is not available (its `available` is False, the group has {world_size} "
            f"rank{'s' * (world_size != 1)}): use two or more ranks, and check that its library is installed"
        )
    if not getattr(user_object, "disabled", False):
        return
    change_state = getattr(user_object, "change_state", None)
    if change_state is None:
        raise SetupError(
            f"{name} is disabled and has no change_state(True): it does not take this machine or this group. Its own "
            "log says why; the usual reasons are one rank, and GPUs without direct access to each other"
        )
    by_name = signatures.takes(change_state, enable=True)
    closing.enter_context(change_state(enable=True) if by_name else change_state(True))
    if user_object.disabled:
        raise SetupError(f"{name} is still disabled inside its change_state(True)")


def end_of(user_object: Any) -> Method | None:
    """Return the method of ``user_object`` that ends it, or ``None`` if there is no such method."""
    methods = (getattr(user_object, name, None) for name in ENDING_METHODS)
    return next((method for method in methods if callable(method) and signatures.takes(method)), None)
