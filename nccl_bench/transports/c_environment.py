"""The environment of this process as C libraries see it.

NCCL adds the variables of its own files (``nccl.conf``) to this environment. Python's ``os.environ`` does not see them.
"""

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_libc = ctypes.CDLL(None)
_libc.getenv.argtypes, _libc.getenv.restype = [ctypes.c_char_p], ctypes.c_char_p
_libc.setenv.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int]
_libc.unsetenv.argtypes = [ctypes.c_char_p]


def c_variable(name: str) -> str | None:
    """Return the value of an environment variable; ``None`` if it is not set."""
    value: bytes | None = _libc.getenv(name.encode())
    return None if value is None else value.decode(errors="surrogateescape")


@contextmanager
def c_variables(variables: Mapping[str, str]) -> Iterator[None]:
    """Set ``variables`` within a ``with`` block. No other thread may use the environment meanwhile."""
    before = {name: c_variable(name) for name in variables}
    _set(variables)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            _libc.unsetenv(name.encode())
        else:
            _libc.setenv(name.encode(), value.encode(errors="surrogateescape"), 1)
