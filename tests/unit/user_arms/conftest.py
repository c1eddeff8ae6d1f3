"""Trees, installed modules, and the check that a test of loading leaves nothing behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine_trees import ENGINE, write


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
