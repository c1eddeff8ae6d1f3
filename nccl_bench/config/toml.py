"""TOML files. No torch."""

import tomllib
from pathlib import Path
from typing import Any

from nccl_bench.errors import UsageError


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file; raise ``UsageError`` if it is missing or malformed."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        # TOMLDecodeError and UnicodeDecodeError are ValueErrors, and so is Python's refusal to read a huge integer.
        raise UsageError(f"{path} is not TOML: {error}") from error
