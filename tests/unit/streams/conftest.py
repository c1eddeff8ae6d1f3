from __future__ import annotations

from collections.abc import Iterator

import pytest

from nccl_bench.streams import cpu
from tests.support.stream_control import within_patience


@pytest.fixture
def nothing_left_unreported() -> Iterator[None]:
    """Fail a test that leaves the failure of a stream unreported, or a stream in a deadlock."""
    yield
    within_patience(cpu.synchronize)
