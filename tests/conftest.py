"""What all tests share.

The process that only gives tests to the other processes imports this module too, before they start. So what takes long
to import is imported where it is used.
"""

from __future__ import annotations

import gc
import itertools
import os
import signal
import sys
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import torch.distributed as dist

    from tests.support.fake_nccl import FakeNccl
    from tests.support.snapshots import CheckSnapshot

# pytest keeps the modules whose asserts it has rewritten, even if PYTHONDONTWRITEBYTECODE is set. Every process of the
# tests imports all of them, and rewriting takes 5 s of CPU time.
sys.dont_write_bytecode = False
# So many modules that compute follow each module that waits. The rest comes last, so that all processes end together.
_COMPUTING = 8


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-snapshots", action="store_true", help="write the expected outputs of reports again")


@pytest.fixture
def snapshot(request: pytest.FixtureRequest) -> CheckSnapshot:
    """Return the function that compares a text with a snapshot."""
    from tests.support.snapshots import check_snapshot

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


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Keep what was imported and collected out of garbage collections.

    It lives until the end of the process. To look at it took a third of the CPU time of the unit tests, because many of
    them collect garbage themselves.
    """
    gc.disable()
    _begin_elsewhere(session.config)
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def _begin_elsewhere(config: pytest.Config) -> None:
    """Let each process of the tests begin its collection with another module.

    In a new checkout, a process rewrites the asserts of each module that no other process has rewritten yet. If all had
    one order, they would be at the same module at the same time, and each would rewrite nearly all modules.
    """
    worker, workers = (os.environ.get(f"PYTEST_XDIST_{name}") for name in ("WORKER", "WORKER_COUNT"))
    if worker is None or workers is None or config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return
    modules = sorted(map(str, Path(__file__).parent.rglob("test_*.py")))
    first = len(modules) * int(worker.removeprefix("gw")) // int(workers)
    config.args[:] = modules[first:] + modules[:first]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests the same order in all processes, in which modules that wait stand among modules that compute.

    Tests of the browser and of real processes wait half of their time. If they all came first, all processes would wait
    at once.
    """
    items.sort(key=lambda item: item.path.parts)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    modules = [list(of_module) for _, of_module in itertools.groupby(items, key=lambda item: item.path)]
    waiting = [module for module in modules if not {"browser", "integration"}.isdisjoint(module[0].path.parts)]
    computing = [module for module in modules if module not in waiting]
    for number, module in enumerate(waiting):
        computing.insert(number * (_COMPUTING + 1), module)
    items[:] = itertools.chain.from_iterable(computing)


def pytest_xdist_auto_num_workers() -> int:
    """Return the number of processes for ``-n auto``: three, or only this one if its tests use GPUs.

    Integration tests wait half of their time. On two cores a third process uses this time.
    """
    from nccl_bench.launch.hardware import gpu_count

    if not gpu_count(os.environ):
        return 3
    import torch

    return 0 if torch.cuda.is_available() else 3


@pytest.fixture(scope="session")
def fake_nccl_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the fake libnccl.so.2 (version 2.28.9) of ``tests/support/fake_nccl``."""
    from tests.support.fake_nccl import build

    return build(tmp_path_factory.mktemp("fake_nccl"))


@pytest.fixture
def fake(fake_nccl_path: Path) -> Iterator[FakeNccl]:
    """Yield the fake library with an empty log."""
    from tests.support.fake_nccl import FakeNccl

    fake = FakeNccl(fake_nccl_path)
    fake.reset()
    yield fake
    fake.reset()


@pytest.fixture(scope="module")
def one_rank() -> Iterator[dist.ProcessGroup]:
    """Yield a Gloo group with this process as its only rank."""
    from tests.support.communicators import one_rank_group

    with one_rank_group() as group:
        yield group
