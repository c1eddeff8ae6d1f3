"""The functions of nccl4py, in a module that stands in for it."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from nccl_bench.audit.order.actions import Action, WorkLaunched
from nccl_bench.audit.sources.feed import Feed
from nccl_bench.audit.sources.model import CpuModel
from nccl_bench.audit.sources.nccl4py import MODULE, Nccl4pySource

FLOAT32 = 7


def test_a_function_that_the_program_kept_is_nccl4pys_own_after_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    module: Any = SimpleNamespace(
        all_reduce=lambda *args: called.append("all_reduce"),
        Comm=int,
        comm_user_rank=lambda comm: called.append("rank") or 0,
        comm_count=lambda comm: called.append("count") or 2,
    )
    monkeypatch.setitem(sys.modules, MODULE, module)
    actions: list[Action] = []
    source = Nccl4pySource(Feed(lambda action: actions.append(action) or ()), CpuModel())
    source.start()
    kept, arguments = module.all_reduce, (64, 64, 4, FLOAT32, 0)
    kept(*arguments, 1, 0)
    assert called == ["all_reduce", "rank", "count"]
    source.stop()
    kept(*arguments, 2, 0)
    assert called == ["all_reduce", "rank", "count", "all_reduce"]
    assert [type(action) for action in actions] == [WorkLaunched]
