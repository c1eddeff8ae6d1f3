"""TOML files. No torch."""

import tomllib
from pathlib import Path
from typing import Any

from nccl_bench.errors import UsageError
from nccl_bench.safety.plain_data import DEEPEST, refuse_unbounded
from nccl_bench.safety.regular_files import read_regular

# The most bytes of a TOML file. Its parser is slow, and the largest preset has 2 kB.
MOST_BYTES = 64 * 1024
# The parser needs a time that grows with the square of the number of dots in a key.
_MOST_DOTS = 100


def read_toml(path: Path, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """Return the content of a TOML file; raise ``UsageError`` if it is missing or malformed."""
    try:
        text = read_regular(path, most_bytes).decode()
        if any(line.count(".") > _MOST_DOTS for line in text.splitlines()):
            raise ValueError(f"a line has more than {_MOST_DOTS} dots")
        content = tomllib.loads(text)
        refuse_unbounded(content)
        return content
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise UsageError(f"{path} is not TOML: it is nested more than {DEEPEST} levels deep") from error
    except ValueError as error:
        # TOMLDecodeError and UnicodeDecodeError are ValueErrors, and so is Python's refusal to read a huge integer.
        raise UsageError(f"{path} is not TOML: {error}") from error
