"""The record of each arm's libnccl, and the libraries that a run refuses."""

from __future__ import annotations

import ctypes
import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from nccl_bench.arms.arm import Arm
from nccl_bench.bench.libraries import describe_libraries
from nccl_bench.bench.record import Record, refuse_other_libraries
from nccl_bench.catalog.routes import Mode
from nccl_bench.config.run import resolve
from nccl_bench.config.user_arms import UserArm
from nccl_bench.errors import RecordError, SetupError
from nccl_bench.ranks.spec import WorkerSpec
from nccl_bench.transports.device import open_device
from nccl_bench.user_arms.communicator import UserCommunicator
from tests.support.communicators import nccl_device
from tests.support.fake_nccl import FakeNccl, build
from tests.support.one_rank_run import in_one_process_set
from tests.support.synthetic_runs import case


def built_in(path: Path, target: str = "stream-free") -> UserArm:
    return UserArm(name="new", target=target, library=str(path))


def test_the_record_has_path_version_and_hash_of_the_library_of_each_arm(
    one_rank: dist.ProcessGroup, fake: FakeNccl, tmp_path: Path
) -> None:
    old = build(tmp_path, "-DOLD")
    arms = {
        "stream-free": Arm("stream-free", one_rank, nccl_device(fake.path)),
        "new": Arm("new", one_rank, nccl_device(old), user_arms=[built_in(old)]),
        "torch": Arm("torch", one_rank, open_device("cpu", 0)),
    }
    config = resolve("cuda", {"variables": {"NCCL_UNKNOWN": "1", "PATH": "x"}})
    facts = describe_libraries(in_one_process_set(arms, one_rank), config, str(fake.path))
    assert facts["libraries"] == [
        {"arm": "stream-free", **described(fake.path, "2.28.9")},
        {"arm": "new", **described(old, "2.12.12")},
    ]
    assert facts["unread_variables"] == ["NCCL_UNKNOWN"]
    assert facts["other_nccl_libraries"] == [str(old)]
    for arm in arms.values():
        arm.close()


def described(path: Path, version: str) -> dict[str, str]:
    return {"version": version, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "path": str(path)}


def test_a_run_without_nccl_records_no_library(one_rank: dist.ProcessGroup) -> None:
    arm = Arm("stream-free", one_rank, open_device("cpu", 0))
    arms = in_one_process_set({"stream-free": arm}, one_rank)
    assert describe_libraries(arms, resolve("cpu", {}), None) == {"libraries": []}
    arm.close()


def test_the_path_of_an_arm_names_its_library(one_rank: dist.ProcessGroup, fake: FakeNccl) -> None:
    arm = Arm("new", one_rank, nccl_device(fake.path), user_arms=[built_in(fake.path)])
    tensor = torch.zeros(8, dtype=torch.bfloat16)
    path = arm.paths(case(16), tensor, tensor)[Mode.EAGER]
    assert path == f"nccl all_reduce on the current stream, library={fake.path}"
    arm.close()


@pytest.mark.parametrize("target", ["stream-free", "coordinator", "torch"])
def test_an_arm_that_calls_another_library_than_its_own_is_refused(
    one_rank: dist.ProcessGroup, fake: FakeNccl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    other = build(tmp_path)
    monkeypatch.setattr("nccl_bench.communicators.torch_distributed.torch_library", lambda: str(fake.path))
    device = nccl_device(fake.path)
    # Without a GPU, torch has only groups of Gloo.
    monkeypatch.setattr(type(device.transport), "backend", "gloo")
    message = f"the arm new has the library {other}, but it calls {fake.path}: "
    with pytest.raises(SetupError) as raised:
        Arm("new", one_rank, device, user_arms=[built_in(other, target)])
    assert str(raised.value).startswith(message)
    link = tmp_path / "link.so"
    link.symlink_to(fake.path)
    Arm("new", one_rank, device, user_arms=[built_in(link, target)]).close()


class LoadsByPath:
    path = ""

    def __init__(self, group: dist.ProcessGroup, device: torch.device) -> None:
        if self.path:
            ctypes.CDLL(self.path)

    def all_reduce(self, tensor: torch.Tensor) -> None: ...


def test_the_library_of_a_users_communicator_is_that_of_torch_unless_it_loads_another_by_path(
    one_rank: dist.ProcessGroup, fake_nccl_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def libraries() -> list[str]:
        communicator = UserCommunicator(LoadsByPath, one_rank, open_device("cpu", 0))
        communicator.close()
        return communicator.libraries()

    assert libraries() == []
    monkeypatch.setattr("nccl_bench.user_arms.communicator.torch_library", lambda: "/torch/libnccl.so.2")
    assert libraries() == ["/torch/libnccl.so.2"]
    monkeypatch.setattr(LoadsByPath, "path", str(fake_nccl_path))
    assert libraries() == [str(fake_nccl_path)]


def test_the_processes_of_an_arm_with_a_library_load_it_before_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/jemalloc.so")
    user_arm = {"name": "new", "target": "torch", "library": "/new.so", "variables": {"NCCL_ALGO": "Ring"}}
    config = resolve("cuda", {"arms": "torch", "user_arms": [user_arm]})
    spec = WorkerSpec(config=config, run_dir=None)
    assert [each.arms for each in spec.process_sets] == [("torch",), ("new",), ("torch:twin",)]
    own = {"NCCL_ALGO": "Ring", "LD_PRELOAD": "/new.so:/jemalloc.so"}
    assert [spec.variables_of(rank, 6) for rank in range(6)] == [{}, {}, own, own, {}, {}]


def library_of(arm: str, sha256: str) -> dict[str, Any]:
    return {"arm": arm, "path": f"/{arm}.so", "version": "2.28.9", "sha256": sha256}


def test_a_run_whose_library_has_changed_is_not_continued() -> None:
    earlier = {"torch": "2.13", "libraries": [library_of("a", "1"), library_of("excluded", "2")]}
    refuse_other_libraries({"torch": "2.13", "libraries": [library_of("a", "1"), library_of("b", "3")]}, earlier)
    with pytest.raises(RecordError, match=r"the file /a\.so of the arm a has changed"):
        refuse_other_libraries({"torch": "2.13", "libraries": [library_of("a", "9")]}, earlier)


def test_the_library_of_an_arm_that_is_no_longer_measured_stays_in_the_record() -> None:
    class Store:
        worker: Any = None

        def update(self, worker: Any) -> None:
            self.worker = worker

    store = Store()
    earlier = {"libraries": [library_of("a", "1"), library_of("b", "2")]}
    Record(store, {"libraries": [library_of("a", "1")]}, earlier).update()  # type: ignore[arg-type]
    assert store.worker["libraries"] == earlier["libraries"]
