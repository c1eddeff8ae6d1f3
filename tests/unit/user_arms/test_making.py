"""A user's object is made with the arguments that it names, enabled, and ended once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist

from nccl_bench.catalog.arms import Order
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.config.user_arms import Adapter
from nccl_bench.errors import SetupError
from nccl_bench.transports.device import Device, open_device
from nccl_bench.user_arms.communicator import UserCommunicator
from tests.support.noting_communicators import Adapting, Noting, Switched, in_place, is_closed
from tests.support.small_user_communicators import make_all_reduce
from tests.support.user_communicators import EngineAfter, EngineBefore

BARE = Order.BARE
PYNCCL, CALLABLE = Adapter.PYNCCL, Adapter.CALLABLE


def unreadable(*args: Any) -> None: ...


def test_a_constructor_gets_the_arguments_that_it_names(group: dist.ProcessGroup, adapting: Adapting) -> None:
    got: list[object] = []

    def note(*given: object) -> Noting:
        got[:] = given
        return Noting()

    def swapped(device: object, group: object, rest: int = 0) -> Noting:
        return note(group, device, rest)

    def other_names(pg: object, dev: Device) -> Noting:
        return note(pg, dev)

    adapting(swapped)
    assert got == [group, torch.device("cpu"), 0]
    adapting(other_names)
    assert got[0] is group
    assert isinstance(got[1], Device)
    adapting(unreadable, adapter=CALLABLE)  # this is the all-reduce and no constructor


def test_an_object_that_existed_before_the_arm_is_ready(adapting: Adapting) -> None:
    made = (EngineAfter, make_all_reduce, StreamFreeCommunicator)
    assert [adapting(target).ready for target in (*made, in_place)] == [False, False, False, True]


def test_an_object_is_enabled_until_it_is_closed_and_ended_once(group: dist.ProcessGroup) -> None:
    for made, closes in ((Switched(), True), (EngineBefore(group, "cpu"), False)):
        adapted = UserCommunicator(lambda *_, made=made: made, group, open_device("cpu", 0), adapter=PYNCCL)
        assert (made.disabled, is_closed(adapted)) == (False, closes)
        for _ in range(2):
            adapted.close()
            assert made.disabled
            assert getattr(made, "ended", 1) == 1


def test_a_ready_object_is_not_ended_and_one_that_does_not_fit_is(adapting: Adapting) -> None:
    ready, made = Switched(), Switched()
    adapted = adapting(ready)
    adapted.close()
    assert (adapted.ready, adapted.reason_not_ended is None, ready.ended, ready.disabled) == (True, False, 0, True)
    with pytest.raises(SetupError, match="needs a private stream"):
        adapting(lambda group, device: made, order=BARE)
    assert (made.ended, made.disabled) == (1, True)
