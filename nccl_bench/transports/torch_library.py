"""Finds the libnccl that torch calls.

torch is linked against the soname libnccl.so.2, and an RPATH in torch's own libraries names the file. Only a library in
``LD_PRELOAD`` goes before it. torch 2.11 then maps its own file too, by its path, but calls none of its functions. So
this module asks the loader where the code of a function is.
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
    is_known = ctypes.CDLL(None).dladdr(address, ctypes.byref(info))
    return info.file.decode() if is_known and info.file else None
