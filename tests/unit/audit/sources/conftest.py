from __future__ import annotations

from typing import Any

import pytest

from nccl_bench.audit.order.actions import Action, WorkLaunched
from nccl_bench.audit.order.order import Order


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[WorkLaunched]:
    """Return the list of the works that reach the order."""
    works: list[WorkLaunched] = []
    take = Order.take

    def taken(order: Order, action: Action) -> Any:
        if isinstance(action, WorkLaunched):
            works.append(action)
        return take(order, action)

    monkeypatch.setattr(Order, "take", taken)
    return works
