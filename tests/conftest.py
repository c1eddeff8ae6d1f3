from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Generator, Iterator
from functools import cache, partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import typer.main
from hypothesis import HealthCheck, settings

from tests.support.communicators import one_rank_group
from tests.support.fake_nccl import FakeNccl, build
from tests.support.snapshots import CheckSnapshot, check_snapshot

# pytest keeps the modules whose asserts it has rewritten, even if PYTHONDONTWRITEBYTECODE is set. Every process of the
# tests imports all of them, and rewriting takes 5 s of CPU time.
sys.dont_write_bytecode = False
# A busy machine is slow, and no example fails for that.
settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-snapshots", action="store_true", help="write the expected outputs of reports again")


@pytest.fixture
def snapshot(request: pytest.FixtureRequest) -> CheckSnapshot:
    """Return the function that compares a text with a snapshot."""
    return partial(check_snapshot, rewrite=request.config.getoption("--rewrite-snapshots"))


def pytest_configure() -> None:
    # A shell's background job ignores SIGINT, and nohup SIGHUP. Every process of the tests would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # Tests of commands expect the output that a user gets, also in a workflow of GitHub Actions.
    os.environ.pop("GITHUB_ACTIONS", None)
    os.environ.pop("GITHUB_STEP_SUMMARY", None)
    # Typer builds a new parser for every call, which takes longer than most of the commands that tests call.
    typer.main.get_command = cache(typer.main.get_command)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep what was imported and collected out of garbage collections.

    It lives until the end of the process. To look at it took a third of the CPU time of the unit tests, because many of
    them collect garbage themselves.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_xdist_auto_num_workers() -> int:
    """Return the number of processes for ``-n auto``: three, or only this one if its tests use GPUs.

    Integration tests wait half of their time. On two cores a third process uses this time.
    """
    return 0 if torch.cuda.is_available() else 3


@pytest.fixture(scope="session")
def fake_nccl_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the fake libnccl.so.2 (version 2.28.9) of ``tests/support/fake_nccl``."""
    return build(tmp_path_factory.mktemp("fake_nccl"))


@pytest.fixture
def fake(fake_nccl_path: Path) -> Iterator[FakeNccl]:
    """Yield the fake library with an empty log."""
    fake = FakeNccl(fake_nccl_path)
    fake.reset()
    yield fake
    fake.reset()


@pytest.fixture(scope="module")
def one_rank() -> Iterator[dist.ProcessGroup]:
    """Yield a Gloo group with this process as its only rank."""
    with one_rank_group() as group:
        yield group
