"""Supervision without delays."""

from __future__ import annotations

import pytest

from nccl_bench.launch import supervise


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the ranks a thousand times a second."""
    monkeypatch.setattr(supervise, "POLL_S", 0.001)
