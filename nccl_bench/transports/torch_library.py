"""Finds the libnccl that torch calls.

Where torch is linked against a libnccl, the loader chooses the file by its soname: a file that is loaded already, such
as one in ``LD_PRELOAD``, otherwise the file that the RPATH of torch names. The file is asked of the loader, by the
address of a function.
"""

import ctypes
import os

_FUNCTION = "ncclGetVersion"
# The library of torch that calls NCCL. It is loaded where torch is a CUDA build.
_CALLER = "libtorch_cuda.so"


class _SymbolInfo(ctypes.Structure):
    """The ``Dl_info`` of dladdr(3)."""

    _fields_ = [
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    ]


def torch_library() -> str | None:
    """Return the path of the file whose NCCL torch calls in this process; ``None`` if torch calls no shared NCCL."""
    # The loader looks in the global scope first, where `LD_PRELOAD` is, and then in the dependencies of the caller.
    for scope in (None, _CALLER):
        try:
            function = getattr(ctypes.CDLL(scope, os.RTLD_LAZY | os.RTLD_NOLOAD), _FUNCTION)
        except (OSError, AttributeError):
            continue
        return file_of(function)
    return None


def file_of(function: object) -> str | None:
    """Return the path of the file that has the code of ``function``, a function of ctypes."""
    info = _SymbolInfo()
    address = ctypes.cast(function, ctypes.c_void_p)  # type: ignore[arg-type]
    found = ctypes.CDLL(None).dladdr(address, ctypes.byref(info))
    return info.file.decode() if found and info.file else None
