from __future__ import annotations

from pathlib import Path

import pytest

from tests.fake_nccl import build


@pytest.fixture(scope="session")
def fake_nccl_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fake libnccl.so.2 (2.28.9); see tests/fake_nccl."""
    return build(tmp_path_factory.mktemp("fake_nccl"))
