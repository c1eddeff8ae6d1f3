"""What NCCL's log says about the buffers of a call: whether NCCL used registered buffers.

The lines are those of NCCL 2.24 to 2.30, of its subsystems ``COLL``, ``REG`` and ``TUNING``. Each line has a prefix
such as ``vm:2072:2081 [0] NCCL INFO``.
"""

import re
from collections.abc import Iterable

SUBSYSTEMS = ("COLL", "REG", "TUNING")

# src/enqueue.cc, ncclEnqueueCheck: every call that reaches NCCL.
_CALL = re.compile(r" NCCL INFO \w+: opCount [0-9a-f]+ sendbuff ")
_USES_REGISTERED = re.compile(
    # src/transport/p2p.cc, net.cc and coll_net.cc: NCCL uses a registration, a new one or an earlier one. 2.26 writes
    # "registered". NCCL writes "registering" before it tries.
    r" NCCL INFO rank \d+ - (IPC|NET|COLLNET) (register|registered|reuse|reuse register) (buffer|userbuff) "
    # src/transport/nvls.cc
    r"| NCCL INFO rank \d+ (successfully|reuse) registered NVLS "
    # src/scheduler and src/enqueue.cc: only registered memory has such algorithms. Only rank 0 writes these lines.
    r"| NCCL INFO \w+ \[(Symmetric|Copy Engine|Hierarchical CE)\]: "
)


def has_call(lines: Iterable[str]) -> bool:
    """Return whether a call of a collective, a send or a receive is in ``lines``."""
    return any(_CALL.search(line) for line in lines)


def uses_registered_buffers(lines: Iterable[str]) -> bool:
    """Return whether NCCL used a registered buffer of the user, by ``lines``."""
    return any(_USES_REGISTERED.search(line) for line in lines)
