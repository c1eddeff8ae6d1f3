"""The kernels that NCCL ran are read from its log. The lines come from real logs and from NCCL's source."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import pytest

from nccl_bench.traces.nccl_kernels import kernels_in

PREFIX = "node0:961:961 [0] NCCL INFO "
# Written by NCCL 2.28.9 on 2x H200.
CALL = (
    f"{PREFIX}AllReduce: opCount 0 sendbuff 0x403600000 recvbuff 0x403600000 count 1 datatype 7 op 0 root 0 comm "
    "0x50c4d020 [nranks=2] stream 0x4e0373a0"
)
COSTS = f"{PREFIX}    AllReduce |     8.0/  61.1 |    16.5/ 180.6 |    16.4/ 232.2 |     7.8/ 141.0 |    17.8/ 331.2 |"


@pytest.mark.parametrize(
    ("line", "kernel", "channels"),
    [
        # Written by NCCL 2.28.9 on 2x H200.
        ("AllReduce: 4 Bytes -> Algo RING proto LL channel{Lo..Hi}={0..0}", "RING/LL", 1),
        ("AllReduce: 4194304 Bytes -> Algo RING proto SIMPLE channel{Lo..Hi}={0..23}", "RING/SIMPLE", 24),
        # As src/scheduler/symmetric_sched.cc and src/ce_coll.cc of 2.27 to 2.30 write them.
        (
            "AllReduce [Symmetric]: 1024 Bytes -> Kernel AllReduce_AGxLL_R nchannels 4 nthreads 512",
            "symmetric AllReduce_AGxLL_R",
            4,
        ),
        (
            "AllGather [Symmetric]: 8388608 Bytes -> Kernel AllGather_ST nchannels 8 nthreads 512 nWorks 1",
            "symmetric AllGather_ST",
            8,
        ),
        ("AllGather [Copy Engine]: 8388608 Bytes -> cudaMemcpy; CE synchronization with NVLS", "copy engine", None),
        ("AllGather [Hierarchical CE]: 8388608 Bytes -> RMA proxy + CE", "hierarchical ce", None),
    ],
)
def test_each_form_of_the_line_names_its_kernel(line: str, kernel: str, channels: int | None) -> None:
    (read,) = kernels_in([CALL, COSTS, PREFIX + line])
    assert (read.name, read.channels) == (kernel, channels)


def test_a_real_log_names_the_kernel_of_each_collective() -> None:
    log = Path(__file__).parents[2] / "data" / "traces" / "nccl-rank0.log.gz"
    lines = gzip.decompress(log.read_bytes()).decode().splitlines()
    calls = [line for line in lines if " opCount " in line]
    kernels = list(kernels_in(lines))
    assert len(kernels) == len(calls) > 0
    assert Counter(kernel.text for kernel in kernels) == {
        "RING/LL on 1 channel": 3,
        "RING/LL on 4 channels": 40,
        "RING/LL on 21 channels": 5,
        "RING/SIMPLE on 24 channels": 18,
    }


def test_no_other_line_names_a_kernel() -> None:
    assert list(kernels_in([CALL, COSTS, "", "AllReduce: 4 Bytes -> Algo RING proto LL"])) == []
