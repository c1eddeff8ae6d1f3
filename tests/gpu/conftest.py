from __future__ import annotations

from pathlib import Path

import pytest
import torch

GPUS = torch.cuda.device_count() if torch.cuda.is_available() else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder with ``gpu``, and skip it if it needs more GPUs than torch sees.

    Tests with the marker ``alone`` come first. Other tests open GPUs in this process, and a run would then take this
    process for another user's.
    """
    folder = Path(__file__).parent
    own = [item for item in items if folder in item.path.parents]
    in_order = iter(sorted(own, key=lambda item: item.get_closest_marker("alone") is None))
    items[:] = [next(in_order) if folder in item.path.parents else item for item in items]
    for item in own:
        item.add_marker(pytest.mark.gpu)
        marker = item.get_closest_marker("gpus")
        needed = marker.args[0] if marker else 1
        if needed > GPUS:
            item.add_marker(pytest.mark.skip(reason=f"needs {needed} NVIDIA GPUs, torch sees {GPUS}"))


class FailuresAtOnce:
    """Prints each failure of this folder when it happens, because a lent machine can be gone before the summary."""

    def __init__(self, config: pytest.Config) -> None:
        self._plugins = config.pluginmanager

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self._plugins.get_plugin("terminalreporter")
        if report.failed and terminal is not None and Path(report.fspath).is_relative_to("tests/gpu"):
            terminal.ensure_newline()
            terminal.write_line(report.longreprtext)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(FailuresAtOnce(config))
