"""Reads from NCCL's log whether NCCL used registered buffers in a call.

NCCL 2.24 to 2.30 write these lines for their subsystems ``COLL``, ``REG`` and ``TUNING``. Each line has a prefix
such as ``vm:2072:2081 [0] NCCL INFO``.
"""

import re
from collections.abc import Iterable, Sequence

SUBSYSTEMS = ("COLL", "REG", "TUNING")

# src/enqueue.cc, ncclEnqueueCheck: every call that reaches NCCL.
_CALL = re.compile(r" NCCL INFO \w+: opCount [0-9a-f]+ sendbuff ")
# src/transport/p2p.cc, net.cc, coll_net.cc and nvls.cc: NCCL uses a new or an earlier registration. NCCL 2.26
# writes "registered". A line with "registering" only announces an attempt, so it does not count.
_USES_REGISTERED = re.compile(
    r" NCCL INFO rank \d+ "
    r"(- (IPC|NET|COLLNET) (register|registered|reuse|reuse register) (buffer|userbuff) |"
    r"(successfully|reuse) registered NVLS )"
)
# src/scheduler and src/enqueue.cc: algorithms that need registered memory. Rank 0 writes these lines for all ranks.
# Symmetric kernels with LL in their names copy through NCCL's buffers; since 2.29 they need no registered memory.
_ON_ALL_RANKS = re.compile(
    r" NCCL INFO \w+ (\[(Copy Engine|Hierarchical CE)\]: |\[Symmetric\]: \d+ Bytes -> Kernel (?!\w*LL)\w)"
)


def has_call(lines: Iterable[str]) -> bool:
    """Return whether a call of a collective, a send or a receive is in ``lines``."""
    return any(_CALL.search(line) for line in lines)


def ranks_with_registered_buffers(lines: Sequence[str], world_size: int) -> int:
    """Return the number of ranks that used registered buffers, as far as the ``lines`` of this rank show it."""
    if any(_ON_ALL_RANKS.search(line) for line in lines):
        return world_size
    return 1 if any(_USES_REGISTERED.search(line) for line in lines) else 0
