from __future__ import annotations

from pathlib import Path

import pytest
import torch

GPUS = torch.cuda.device_count() if torch.cuda.is_available() else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder with ``gpu``, and skip it if it needs more GPUs than torch sees."""
    folder = Path(__file__).parent
    for item in items:
        if folder not in item.path.parents:
            continue
        item.add_marker(pytest.mark.gpu)
        marker = item.get_closest_marker("gpus")
        needed = marker.args[0] if marker else 1
        if needed > GPUS:
            item.add_marker(pytest.mark.skip(reason=f"needs {needed} NVIDIA GPUs, torch sees {GPUS}"))
