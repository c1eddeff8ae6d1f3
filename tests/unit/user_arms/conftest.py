"""Trees, installed modules, the check that loading leaves nothing behind, and the adapting of users' objects."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist

from nccl_bench.catalog.arms import Order
from nccl_bench.config.user_arms import Adapter
from nccl_bench.transports.device import open_device
from nccl_bench.user_arms.communicator import UserCommunicator
from tests.support.communicators import one_rank_group
from tests.support.engine_trees import ENGINE, write
from tests.support.noting_communicators import Adapting


@pytest.fixture
def trees(tmp_path: Path) -> tuple[str, str]:
    return str(write(tmp_path / "before", ENGINE, "before")), str(write(tmp_path / "after", ENGINE, "after"))


@pytest.fixture
def process_is_unchanged(tmp_path: Path) -> Iterator[None]:
    """Fail if a test leaves a change in the process or in the user's files."""
    modules, path, finders = dict(sys.modules), [*sys.path], [*sys.meta_path]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", False)
        yield
    assert (sys.path, sys.meta_path) == (path, finders)
    assert {name for name, module in modules.items() if sys.modules.get(name) is not module} == set()
    assert [name for name, module in sys.modules.items() if str(tmp_path) in repr(module)] == []
    assert not list(tmp_path.rglob("*.pyc"))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a directory whose modules count as installed, and forget them afterwards."""
    root = tmp_path / "installed"
    root.mkdir()
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield root
    for name in [name for name, module in sys.modules.items() if str(root) in repr(module)]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def group() -> Iterator[dist.ProcessGroup]:
    with one_rank_group() as group:
        yield group


@pytest.fixture
def adapting(group: dist.ProcessGroup) -> Iterator[Adapting]:
    """Yield a maker of user communicators, and close what it made."""
    made: list[UserCommunicator] = []

    def adapting(target: object, adapter: Adapter | None = None, order: Order | None = None) -> UserCommunicator:
        made.append(UserCommunicator(target, group, open_device("cpu", 0), adapter=adapter, order=order))
        return made[-1]

    yield adapting
    for adapted in made:
        adapted.close()
