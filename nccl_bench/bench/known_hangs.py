"""Cases that are not measured, because they are known to hang."""

from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.nccl_version import version_text
from nccl_bench.transports.c_environment import c_variable

# NCCL registers the buffers of sends and receives in graphs since 2.23.4. Since 2.29.2 it can register memory that
# consists of several segments.
_FIRST, _MENDED = 22304, 22902
# NCCL sends a smaller block by its protocol LL, and registers no buffer for it (`P2pLLThreshold` in src/enqueue.cc).
_LARGEST_LL_BLOCK_BYTES = 16 * 1024


def hang_in_graphs(case: Case, world_size: int, nccl_version: int) -> str | None:
    """Return why ``case`` can hang in a CUDA graph on torch's expandable segments; ``None`` if no reason is known.

    NCCL registers the buffers of a captured call. A send and its receive work together only if both buffers are
    registered, or neither. Before 2.29.2 NCCL registers a block only if it lies in one segment. torch's segments have
    20 MiB.
    """
    block_bytes = case.count * DTYPES[case.dtype].itemsize
    if (
        not case.row.point_to_point
        or world_size == 1
        or block_bytes <= _LARGEST_LL_BLOCK_BYTES
        or not _FIRST <= nccl_version < _MENDED
        or c_variable("NCCL_GRAPH_REGISTER") == "0"
    ):
        return None
    return (
        f"in a graph on torch's expandable segments, NCCL {version_text(nccl_version)} can hang: give --env "
        "NCCL_GRAPH_REGISTER=0 or another --memory, use NCCL 2.29.2 or later, or leave graph out of --timing"
    )
