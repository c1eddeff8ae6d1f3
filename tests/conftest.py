from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch.distributed as dist
import typer.main
from hypothesis import HealthCheck, settings

from tests.support.fake_nccl import FakeNccl, build

# How long an example takes is the machine's affair.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


def pytest_configure() -> None:
    # A shell's job in the background ignores ctrl-C, and so would every process that is started here.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Typer builds the parser anew for every call, which takes longer than most of what is called here.
    typer.main.get_command = cache(typer.main.get_command)


@pytest.fixture(scope="session")
def fake_nccl_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fake libnccl.so.2 (2.28.9); see tests/support/fake_nccl."""
    return build(tmp_path_factory.mktemp("fake_nccl"))


@pytest.fixture
def fake(fake_nccl_path: Path) -> Iterator[FakeNccl]:
    """The fake library with an empty log."""
    fake = FakeNccl(fake_nccl_path)
    fake.reset()
    yield fake
    fake.reset()


@pytest.fixture(scope="module")
def one_rank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dist.ProcessGroup]:
    """torch.distributed over Gloo with this process as its only rank."""
    store = dist.FileStore(str(tmp_path_factory.mktemp("store") / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    world = dist.group.WORLD
    assert world is not None
    yield world
    dist.destroy_process_group()
