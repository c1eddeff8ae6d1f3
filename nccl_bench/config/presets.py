"""Presets: files of options that come with the package, by name. No torch.

They are in the folder ``configs`` of a checkout. A wheel has this folder as ``nccl_bench/presets``.
"""

from pathlib import Path

import nccl_bench
from nccl_bench.config.nearest import instead_of
from nccl_bench.errors import UsageError

_PACKAGE = Path(nccl_bench.__file__).parent
# The file of this name has thresholds for --limits. It is no preset.
_LIMITS = "limits"


def presets() -> dict[str, Path]:
    """Return the file of each preset, by its name."""
    installed = _PACKAGE / "presets"
    folder = installed if installed.is_dir() else _PACKAGE.parent / "configs"
    return {file.stem: file for file in sorted(folder.glob("*.toml")) if file.stem != _LIMITS}


def preset_file(name: str) -> Path:
    """Return the file of the preset ``name``; raise ``UsageError`` with the nearest name if there is no such preset."""
    files = presets()
    if name not in files:
        raise UsageError(f"--preset is {name!r}: {instead_of(name, files)}")
    return files[name]


def summary_of(file: Path) -> str:
    """Return the comment in the first line of a preset."""
    first = next(iter(file.read_text(encoding="utf-8").splitlines()), "")
    return first.lstrip("# ")
