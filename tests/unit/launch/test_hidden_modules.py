"""Files that hide a package which every rank needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from nccl_bench.errors import SetupError
from nccl_bench.launch.hidden_modules import refuse_hidden_packages


@pytest.mark.parametrize("name", ["torch", "numpy"])
def test_a_file_that_hides_a_needed_package_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_hidden_packages()
    (tmp_path / f"{name}.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SetupError, match=f"{tmp_path}/{name}.py hides the installed package {name}"):
        refuse_hidden_packages()
