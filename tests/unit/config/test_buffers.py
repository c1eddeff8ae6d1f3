"""The memory of buffers, and how it is registered."""

from __future__ import annotations

import pytest

from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.memory import Memory, Register
from nccl_bench.config.run import resolve
from nccl_bench.errors import UsageError


def test_registered_memory_is_refused_on_the_cpu() -> None:
    assert resolve("cpu").register is Register.NONE
    assert resolve("cpu", {"register": "none"}).register is Register.NONE
    for how in (Register.LOCAL, Register.WINDOW):
        assert resolve("cuda", {"register": str(how)}).register is how
        with pytest.raises(UsageError) as caught:
            resolve("cpu", {"register": str(how)})
        assert str(caught.value) == (
            f"register is '{how}': the CPU does not use NCCL, which allocates and registers memory of GPUs: leave the "
            "option out"
        )


def test_the_cpu_has_only_torchs_memory() -> None:
    assert resolve("cpu").memory is resolve("cpu", {"memory": "torch"}).memory is Memory.TORCH
    for memory, reason in DEVICES["cpu"].missing_memory.items():
        with pytest.raises(UsageError) as caught:
            resolve("cpu", {"memory": str(memory)})
        assert str(caught.value) == f"memory is '{memory}': {reason}: give torch"


@pytest.mark.parametrize(
    ("options", "memory"),
    [
        ({}, Memory.TORCH),
        ({"register": "local"}, Memory.NCCL),
        ({"register": "window"}, Memory.NCCL),
        ({"register": "local", "memory": "torch"}, Memory.TORCH),
        ({"memory": "expandable"}, Memory.EXPANDABLE),
    ],
)
def test_registered_buffers_are_in_nccls_memory_unless_the_user_chooses(
    options: dict[str, str], memory: Memory
) -> None:
    assert resolve("cuda", options).memory is memory


@pytest.mark.parametrize(
    ("memory", "register", "way_out"),
    [
        ("torch", "window", "leave --memory out"),
        ("expandable", "window", "leave --memory out"),
        ("expandable", "local", "leave out one of the two options"),
    ],
)
def test_memory_that_cannot_be_registered_in_this_way_is_refused(memory: str, register: str, way_out: str) -> None:
    with pytest.raises(UsageError, match=f"memory is '{memory}', and register is '{register}'.*{way_out}"):
        resolve("cuda", {"memory": memory, "register": register})
