"""Finds the libnccl that torch calls.

torch is linked against the soname libnccl.so.2, and an RPATH in torch's own libraries names the file. Only a library in
``LD_PRELOAD`` has priority over that file. Even with ``LD_PRELOAD``, torch 2.11 maps its own file, but calls nothing in
it. So a mapped file is not always the file that torch calls. This module asks the loader which file holds the code of a
function.
"""

import ctypes
import os

_FUNCTION = "ncclGetVersion"
# The library of torch that calls NCCL. Only a CUDA build of torch loads it.
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
    """Return the path of the libnccl that torch calls in this process; ``None`` if it calls no shared library."""
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
    is_known = ctypes.CDLL(None).dladdr(address, ctypes.byref(info))
    return info.file.decode() if is_known and info.file else None
