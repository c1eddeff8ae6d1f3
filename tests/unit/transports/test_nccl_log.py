"""NCCL's log, switched on for single calls of a fake NCCL, and what its lines say about buffers."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from nccl_bench.transports.c_environment import c_variable, c_variables
from nccl_bench.transports.nccl_log import NcclLog
from nccl_bench.transports.nccl_registration import SUBSYSTEMS, has_call, ranks_with_registered_buffers
from tests.support.fake_nccl import FakeNccl, build

PREFIX = "gpu-node:2072:2081 [0] NCCL INFO "
CALL = (
    f"{PREFIX}AllGather: opCount 0 sendbuff 0x7f1e40000000 recvbuff 0x7f1e60000000 count 4194304 datatype 9 op 0 "
    "root 0 comm 0x55d1c0 [nranks=2] stream 0x55d200"
)
# Lines as NCCL's source writes them; in parentheses the version, if a line is not the same in all of them.
USES = [
    "rank 0 - IPC register buffer 0x7f1e60000000 size 8388608 (baseAddr 0x7f1e60000000 size 536870912) to peer 1 "
    "regAddr 0x7f1d00000000 offsetOut 0",
    "rank 1 - IPC registered buffer 0x7f1e60000000 size 8388608 (baseAddr 0x7f1e60000000 size 536870912) to peer 0 "
    "regAddr 0x7f1d00000000 offsetOut 0",  # (2.26)
    "rank 0 - IPC reuse buffer 0x7f1e60000000 size 8388608 (baseAddr 0x7f1e60000000 size 536870912) to peer 1 regAddr "
    "0x7f1d00000000",
    "rank 0 - IPC register buffer 0x7f1e60000000 size 8388608 (baseAddr 0x7f1e60000000 totalSize 41943040 numSegments "
    "2) to peer 1 regAddr 0x7f1d00000000 offsetOut 0",  # (2.29)
    "rank 3 - NET register userbuff 0x7f1e60000000 (handle 0x55d1), buffSize 8388608",
    "rank 3 - NET reuse buffer 0x7f1e60000000 size 8388608 (baseAddr 0x7f1e60000000 size 8388608) handle 0x55d1",
    "rank 0 - COLLNET register userbuff 0x7f1e60000000 (handle 0x55d1), buffSize 8388608, type Recv",
    "rank 0 - COLLNET reuse register userbuff 0x7f1e60000000 (handle 0x55d1), buffSize 8388608, type Send",
    "rank 0 successfully registered NVLS sendbuff 0x1, recvbuff 0x2, sendbuff size 8, recvbuff size 8, reg "
    "sendbuff 0x3, reg recvbuff 0x4",
    "rank 0 reuse registered NVLS sendbuff 0x1, recvbuff 0x2, sendbuff size 8, recvbuff size 8, reg sendbuff 0x3, reg "
    "recvbuff 0x4",
]
# Rank 0 writes these lines for all ranks.
USE_ON_ALL_RANKS = [
    "AllReduce [Symmetric]: 8388608 Bytes -> Kernel AllReduce_RSxLD_AGxST nchannels 8 nthreads 512 nWorks 1",
    "AllGather [Copy Engine]: 8388608 Bytes -> cudaMemcpyNVLSSync",  # (2.29)
]
USES_NOT = [
    "AllReduce [Symmetric]: 1024 Bytes -> Kernel AllReduce_AGxLL_R nchannels 1 nthreads 512 nWorks 1",
    "register comm 0x55d1c0 buffer 0x7f1e60000000 size 536870912",
    "rank 0 - IPC registering buffer 0x7f1e60000000 size 8388608 (baseAddr 0x7f1e60000000 size 536870912) to peer 1",
    "rank 0 failed to IPC register userbuff 0x7f1e60000000 buffSize 8388608 nPeers 1 isLegacyIpc 0 type POSIX_FD",
    "rank 0 failed to NET register userbuff 0x7f1e60000000 buffSize 8388608 GDR flag 0",
    "rank 0 failed to NVLS register sendbuff 0x1 sendbuffSize 8 recvbuff 0x2 recvbuffSize 8",
    "rank 0 - COLLNET failed to register userbuff 0x7f1e60000000, buffSize 8388608, type Recv, GDR 0",
    "rank 0 - IPC deregistered buffer 0x7f1e60000000 peer 1 ipc remote buffer 0x7f1d00000000",
    "Proxy rank 0 register reqBuff 0x7f1d size 536870912 offset 0 legacyIpcCap 0 sameProcess 0",
    "Proxy rank 0 register success regAddr 0x7f1d00000000 size 536870912 offset 0 legacyIpcCap 0 sameProcess 0",
    "Skipping graph registration for buffer 0x7f1e60000000 size 536870912 (P2pUsesMemcpy=1)",
    "AllGather: 8388608 Bytes -> Algo RING proto SIMPLE channel{Lo..Hi}={0..15}",
]


@pytest.mark.parametrize(("line", "ranks"), [*((line, 1) for line in USES), *((line, 4) for line in USE_ON_ALL_RANKS)])
def test_a_line_about_a_used_registration_counts_for_the_ranks_that_it_is_about(line: str, ranks: int) -> None:
    assert ranks_with_registered_buffers([CALL, *map(PREFIX.__add__, USES_NOT), PREFIX + line], 4) == ranks


@pytest.mark.parametrize("line", USES_NOT)
def test_a_line_about_a_failure_an_attempt_or_another_rank_does_not_count(line: str) -> None:
    assert ranks_with_registered_buffers([CALL, PREFIX + line], 4) == 0


def test_only_a_call_counts_as_a_call() -> None:
    assert has_call([CALL])
    assert not has_call([PREFIX + line for line in [*USES, *USE_ON_ALL_RANKS, *USES_NOT]])


@pytest.fixture
def library(tmp_path: Path) -> Path:
    return build(tmp_path, "-DLOG")


def call(library: Path) -> None:
    """Make a call that fails at once, so that it needs no communicator."""
    FakeNccl(library).fail_next("ncclSend", 1)
    ctypes.CDLL(str(library)).ncclSend(None, ctypes.c_size_t(0), 0, 0, None, None)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_the_log_has_the_lines_of_calls_within_the_block_only(library: Path) -> None:
    log = NcclLog([str(library)])
    assert log.reason_absent is None
    FakeNccl(library).set_log_about_buffers(USES[0])
    before = open_descriptors()
    for _ in range(3):
        call(library)
        with log.switched_on(SUBSYSTEMS) as new_lines:
            assert new_lines() == []
            call(library)
            lines = new_lines()
            assert has_call(lines)
            assert ranks_with_registered_buffers(lines, 4) == 1
            assert len(lines) == 2
            assert new_lines() == []
        call(library)
    assert c_variable("NCCL_DEBUG_FILE") is None
    assert open_descriptors() == before


def test_the_settings_of_the_user_come_back(library: Path) -> None:
    with c_variables({"NCCL_DEBUG": "WARN", "NCCL_DEBUG_SUBSYS": "INIT"}):
        with NcclLog([str(library)]).switched_on(SUBSYSTEMS):
            assert (c_variable("NCCL_DEBUG"), c_variable("NCCL_DEBUG_SUBSYS")) == ("INFO", "COLL,REG,TUNING")
        assert (c_variable("NCCL_DEBUG"), c_variable("NCCL_DEBUG_SUBSYS")) == ("WARN", "INIT")


def test_an_older_nccl_has_no_log_to_switch_on(library: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    old = build(tmp_path_factory.mktemp("old"), "-DOLD")
    assert NcclLog([str(old)]).reason_absent == f"NCCL before 2.24 cannot switch its log on ({old})"
    assert NcclLog([str(old), str(library)]).reason_absent is None


def test_the_users_own_log_file_is_left_alone(library: Path) -> None:
    with c_variables({"NCCL_DEBUG_FILE": "/tmp/nccl.log"}):
        assert NcclLog([str(library)]).reason_absent == "NCCL_DEBUG_FILE is set, so the log is left to you"
