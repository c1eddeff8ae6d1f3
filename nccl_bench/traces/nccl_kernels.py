"""Reads NCCL's kernels from lines of its log (TUNING). Rank 0 writes these lines for all ranks."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from nccl_bench.records.kernels import Kernel

# The text between the prefix of each line and its content.
MARK = b"NCCL INFO "
# The three forms of src/enqueue.cc, src/scheduler/symmetric_sched.cc and src/ce_coll.cc:
#   AllReduce: 32768 Bytes -> Algo RING proto LL channel{Lo..Hi}={0..3}
#   AllReduce [Symmetric]: 32768 Bytes -> Kernel AllReduce_AGxLL_R nchannels 4 nthreads 512 nWorks 1
#   AllGather [Copy Engine]: 32768 Bytes -> cudaMemcpy
# Sends and receives have no such line, and neither have the copy engines of NCCL 2.28.
_LINE = re.compile(
    rb"(\w{1,30})(?: \[([\w ]{1,30})\])?: (\d{1,18}) Bytes -> "
    rb"(?:Algo (\w{1,30}) proto (\w{1,30}) channel\{Lo\.\.Hi\}=\{(\d{1,4})\.\.(\d{1,4})\}"
    rb"|Kernel (\w{1,80})(?: nchannels (\d{1,4}))?|\w)"
)


class KernelLine(NamedTuple):
    """The content of a line."""

    function: bytes  # the function of NCCL, such as ``AllReduce``
    size_bytes: int  # the size of the message as NCCL counts it
    kernel: Kernel  # the kernel that NCCL ran


def kernel_line(text: bytes) -> KernelLine | None:
    """Return the content of ``text``, a line without its prefix; ``None`` if it names no kernel."""
    match = _LINE.match(text)
    if match is None:
        return None
    function, kind, size, algorithm, protocol, low, high, name, count = (
        None if each is None else each.decode() for each in match.groups()
    )
    channels = int(high) - int(low) + 1 if low and high else int(count or 0)
    special = None if algorithm else " ".join(filter(None, ((kind or "").lower(), name)))
    return KernelLine(
        str(function).encode(),
        int(size or 0),
        Kernel(algorithm=algorithm, protocol=protocol, special=special or None, channels=max(channels, 0) or None),
    )


def kernels_in(lines: Iterable[str]) -> Iterator[Kernel]:
    """Yield the kernels that the ``lines`` of NCCL's log name."""
    for line in lines:
        _, _, text = line.partition(MARK.decode())
        if content := kernel_line(text.encode()):
            yield content.kernel
