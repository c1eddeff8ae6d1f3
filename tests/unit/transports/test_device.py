"""The device of a rank: which GPU it takes, and which cases the machine refuses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch.torch_version import TorchVersion

from nccl_bench.config.run import resolve
from nccl_bench.errors import SetupError
from nccl_bench.plan.cases import make_plan
from nccl_bench.transports import device as device_module
from nccl_bench.transports.device import Device, open_device, refusal
from nccl_bench.transports.nccl import NcclTransport
from nccl_bench.transports.nccl4py import VERSION
from nccl_bench.transports.nccl_library import LibrarySource, NcclLibrary
from tests.support import fake_nccl4py
from tests.support.communicators import nccl_device
from tests.support.fake_nccl import build


class Ranks:
    """The messages of two ranks, of which this process is rank 1 and rank 0 passes ``of_rank_0``."""

    def __init__(self, of_rank_0: str | None) -> None:
        self.of_rank_0 = of_rank_0

    def first_message(self, message: str | None) -> tuple[int, str] | None:
        messages = enumerate((self.of_rank_0, message))
        return next(((rank, text) for rank, text in messages if text is not None), None)


@pytest.mark.parametrize(
    ("chosen", "installed", "of_rank_0", "expected"),
    [
        (None, VERSION, None, ("nccl4py", None)),
        (None, None, None, ("nccl", f"nccl4py {VERSION} is not installed: pip install nccl4py=={VERSION}")),
        (None, VERSION, "nccl4py uses another", ("nccl", "nccl4py uses another")),
        ("nccl", VERSION, None, ("nccl", None)),
        ("nccl4py", VERSION, "not asked", ("nccl4py", None)),
    ],
)
def test_nccl4py_is_the_binding_if_every_rank_can_use_it(
    monkeypatch: pytest.MonkeyPatch,
    fake_nccl_path: Path,
    chosen: str | None,
    installed: str | None,
    of_rank_0: str | None,
    expected: tuple[str, str | None],
) -> None:
    fake_nccl4py.install(monkeypatch, fake_nccl_path)
    fake_nccl4py.pretend_version(monkeypatch, installed)
    device, reason = nccl_device(fake_nccl_path).with_binding(chosen, Ranks(of_rank_0))  # type: ignore[arg-type]
    assert (device.transport.name, reason) == expected


def test_nccl4py_with_another_library_is_not_the_binding(
    monkeypatch: pytest.MonkeyPatch, fake_nccl_path: Path, tmp_path: Path
) -> None:
    fake_nccl4py.install(monkeypatch, build(tmp_path))
    device, reason = nccl_device(fake_nccl_path).with_binding(None, Ranks(None))  # type: ignore[arg-type]
    assert device.transport.name == "nccl"
    assert str(reason).startswith(f"nccl4py uses {tmp_path}/libnccl.so.2, ")
    with pytest.raises(SetupError, match="nccl4py uses"):
        device.with_binding("nccl4py", Ranks(None))  # type: ignore[arg-type]


class OldGpu:
    """Streams of a GPU with ``capability``."""

    def __init__(self, capability: str) -> None:
        self.capability = capability

    def describe(self) -> dict[str, object]:
        return {"compute_capability": self.capability}


@pytest.mark.parametrize(
    ("version", "capability", "collective", "dtype", "expected"),
    [
        (22809, "9.0", "all_reduce", "float8_e5m2", None),
        (22809, "10.0", "all_reduce", "float8_e5m2", None),
        (22809, "8.0", "all_reduce", "float8_e5m2", "compute capability 9.0 on, and this GPU has 8.0"),
        (22304, "9.0", "reduce_scatter", "float8_e4m3fn", "NCCL 2.23.4 does not reduce float8"),
        (22304, "8.0", "all_gather", "float8_e4m3fn", None),
        (22304, "8.0", "all_reduce", "float16", None),
    ],
)
def test_a_case_that_this_machine_cannot_reduce_is_refused_with_the_reason(
    fake_nccl_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: int,
    capability: str,
    collective: str,
    dtype: str,
    expected: str | None,
) -> None:
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.8.0"))
    transport = NcclTransport(NcclLibrary(path=str(fake_nccl_path), source=LibrarySource.ARGUMENT))
    transport.version = version
    (planned,) = make_plan(resolve("cuda", {"collectives": collective, "dtypes": dtype, "sizes": "4K"}), 2).cases
    reason = refusal(Device(streams=OldGpu(capability), transport=transport), planned.case)  # type: ignore[arg-type]
    assert reason == expected or (expected is not None and reason is not None and expected in reason)


def test_what_an_older_torch_cannot_reduce_is_refused_with_its_version(
    fake_nccl_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.7.1+cpu"))
    layer = {"collectives": "all_reduce,reduce_scatter", "redops": "sum,avg,max", "dtypes": "float32", "sizes": "4K"}
    reasons = {
        (each.case.collective, str(each.case.redop)): refusal(open_device("cpu", 0), each.case)
        for each in make_plan(resolve("cpu", layer), 2).cases
    }
    assert reasons == {
        ("all_reduce", "sum"): None,
        ("all_reduce", "avg"): "Gloo runs all_reduce with avg since torch 2.8, and this is torch 2.7.1+cpu",
        ("all_reduce", "max"): None,
        ("reduce_scatter", "sum"): None,
        ("reduce_scatter", "avg"): "Gloo runs reduce_scatter with avg since torch 2.8, and this is torch 2.7.1+cpu",
        ("reduce_scatter", "max"): "Gloo runs reduce_scatter with max since torch 2.9, and this is torch 2.7.1+cpu",
    }
    nccl = NcclTransport(NcclLibrary(path=str(fake_nccl_path), source=LibrarySource.ARGUMENT))
    nccl.version = 22809
    (planned,) = make_plan(resolve("cuda", {"dtypes": "float8_e5m2", "sizes": "4K"}), 2).cases
    reason = refusal(Device(streams=OldGpu("9.0"), transport=nccl), planned.case)  # type: ignore[arg-type]
    assert reason == "torch.distributed reduces float8 since torch 2.8, and this is torch 2.7.1+cpu"


@pytest.mark.parametrize(
    ("visible", "local_rank", "index"), [(1, 0, 0), (1, 3, 0), (4, 3, 3), (4, 4, None), (0, 0, None)]
)
def test_a_rank_takes_its_own_gpu_or_the_only_visible_one(
    visible: int, local_rank: int, index: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: visible > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.setattr(device_module, "CudaStreams", taken.append)
    monkeypatch.setattr(device_module, "find_library", lambda explicit, of_arm: explicit)
    monkeypatch.setattr(device_module, "NcclTransport", lambda library: library)
    if index is None:
        with pytest.raises(SetupError):
            open_device("cuda", local_rank)
    else:
        open_device("cuda", local_rank)
        assert taken == [index]


@pytest.mark.parametrize(
    ("visible", "ranks", "indices", "hosts"),
    [(1, 2, [0, 0], 2), (2, 3, [0, 1, 0], 3), (2, 2, [0, 1], 0), (4, 2, [0, 1], 0)],
)
def test_ranks_that_share_gpus_have_host_ids_of_their_own(
    visible: int, ranks: int, indices: list[int], hosts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.setattr(device_module, "CudaStreams", taken.append)
    monkeypatch.setattr(device_module, "find_library", lambda explicit, of_arm: explicit)
    monkeypatch.setattr(device_module, "NcclTransport", lambda library: library)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    host_ids = set()
    for local_rank in range(ranks):
        monkeypatch.setenv("NCCL_HOSTID", "")
        assert open_device("cuda", local_rank, sharing=True).shared is (ranks > visible)
        host_ids.add(os.environ["NCCL_HOSTID"])
    assert (taken, len(host_ids - {""})) == (indices, hosts)
