"""Names of collectives and data types in torch, in NCCL and in their records, in the words of the catalog."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from nccl_bench.catalog.dtypes import DTYPES

_OTHER_LETTERS = re.compile(r"[^a-z]")
# The letters of a name without prefix -> the name in the catalog, or a name of this module for calls that the catalog
# does not have. torch has several names for one collective: `allreduce`, `all_reduce`, `allreduce_coalesced`.
_COLLECTIVES: Mapping[str, str] = {
    **dict.fromkeys(("allreduce", "allreducecoalesced", "allreducesparse"), "all_reduce"),
    **dict.fromkeys(
        ("allgather", "allgatherbase", "allgathercoalesced", "allgatherintotensor", "allgatherintotensorcoalesced"),
        "all_gather",
    ),
    **dict.fromkeys(
        ("reducescatter", "reducescatterbase", "reducescattertensor", "reducescattertensorcoalesced"),
        "reduce_scatter",
    ),
    **dict.fromkeys(("alltoall", "alltoallv", "alltoallbase"), "all_to_all"),
    **dict.fromkeys(("broadcast", "broadcastoop"), "broadcast"),
    **dict.fromkeys(("reduce", "reduceoop"), "reduce"),
    "gather": "gather",
    "scatter": "scatter",
    "send": "send",
    **dict.fromkeys(("recv", "recvanysource"), "recv"),
    "sendrecv": "send_recv",
    **dict.fromkeys(("barrier", "allreducebarrier"), "barrier"),
}
# The collectives that NCCL makes of sends and receives, which run in one kernel.
_OF_SENDS = frozenset({"send", "recv", "all_to_all", "gather", "scatter"})
# The records of torch that are no collectives, such as a wait, or the start or the end of a group.
_NO_COLLECTIVES = frozenset(
    {"wait", "init", "initunderlying", "pgconfig", "coalesced", "startcoalescing", "endcoalescing", "destroy"}
)


def collective_of(name: str) -> str | None:
    """Return the collective that torch or NCCL calls ``name``; ``None`` if no known collective has this name."""
    return _COLLECTIVES.get(_letters(name))


def kernel_of(collective: str) -> str:
    """Return the collective in the name of the kernel that does the work of ``collective``."""
    return "send_recv" if collective in _OF_SENDS else "all_reduce" if collective == "barrier" else collective


def is_no_collective(name: str) -> bool:
    """Return True if ``name`` belongs to a record of torch that sends no message."""
    return _letters(name) in _NO_COLLECTIVES


def kernel_collective(kernel: str) -> str:
    """Return the collective in the name of a kernel of NCCL; ``unknown`` without a known collective.

    The names are ``ncclDevKernel_AllReduce_Sum_bf16_RING_LL(...)``, and ``ncclKernel_AllReduce_RING_LL_Sum_float(...)``
    before NCCL 2.19.
    """
    _, _, rest = kernel.partition("_")
    return collective_of(rest.partition("_")[0]) or "unknown"


def _letters(name: str) -> str:
    # The flight recorder writes `nccl:send 0->1`.
    word = name[:200].rpartition(":")[2].split(" ")[0]
    return _OTHER_LETTERS.sub("", word.lower())


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementType:
    """The type of the elements of a message."""

    name: str  # the name in torch, which can be outside the catalog
    itemsize: int  # the bytes of one element


_TYPES: Mapping[str, ElementType] = {
    **{name: ElementType(name=name, itemsize=row.itemsize) for name, row in DTYPES.items()},
    **{
        name: ElementType(name=name, itemsize=itemsize)
        for name, itemsize in {
            "bool": 1,
            "int16": 2,
            "uint16": 2,
            "uint32": 4,
            "uint64": 8,
            "complex64": 8,
            "complex128": 16,
            "float8_e4m3fnuz": 1,
            "float8_e5m2fnuz": 1,
        }.items()
    },
}
# The names of torch's scalar types, in lower case, and the names that C++ has for them.
_SCALAR_TYPES: Mapping[str, str] = {
    "double": "float64",
    "float": "float32",
    "half": "float16",
    "c10::half": "float16",
    "c10::bfloat16": "bfloat16",
    "char": "int8",
    "signed char": "int8",
    "byte": "uint8",
    "unsigned char": "uint8",
    "short": "int16",
    "int": "int32",
    "long": "int64",
    "long int": "int64",
    "complexfloat": "complex64",
    "c10::float8_e4m3fn": "float8_e4m3fn",
    "c10::float8_e5m2": "float8_e5m2",
    "complexdouble": "complex128",
}
# The numbers of ncclDataType_t.
_NCCL_TYPES = (
    *("int8", "uint8", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64", "bfloat16"),
    *("float8_e4m3fn", "float8_e5m2"),
)


def torch_type(name: str) -> ElementType | None:
    """Return the type that torch calls ``name``, such as ``BFloat16``; ``None`` if it is not known."""
    lower = name.lower()
    return _TYPES.get(_SCALAR_TYPES.get(lower, lower))


def nccl_type(number: int) -> ElementType | None:
    """Return the type with this number in NCCL; ``None`` if there is none."""
    return _TYPES[_NCCL_TYPES[number]] if 0 <= number < len(_NCCL_TYPES) else None
