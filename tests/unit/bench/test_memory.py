"""A case's slots in NCCL's memory: registered with every communicator of this package, given back, and reported."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.arms.arm import Arm
from nccl_bench.bench import memory, runner
from nccl_bench.bench.record import Record
from nccl_bench.catalog.memory import Memory, Register
from nccl_bench.communicators.dedicated_stream import DedicatedStreamCommunicator
from nccl_bench.communicators.over_transport import TransportCommunicator
from nccl_bench.config.run import resolve
from nccl_bench.errors import NcclError, SetupError, TransportError
from nccl_bench.ranks.progress import Progress
from nccl_bench.records.schema import Line, Registration, Samples, Skipped
from nccl_bench.transports.nccl import NcclTransport
from tests.support.communicators import nccl_device
from tests.support.fake_nccl import Call, FakeNccl, build
from tests.support.one_rank_run import in_one_process_set, run_on_one_rank
from tests.support.stream_control import PlantedError

OURS = ["stream-free", "transport", "dedicated-stream", "coordinator"]
WITH_TWIN = [*OURS, "dedicated-stream:twin"]
OTHERS = ["torch", "torch-async"]
EITHER = pytest.mark.parametrize("how", [Register.LOCAL, Register.WINDOW])


@pytest.fixture(autouse=True)
def host_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the fake NCCL's memory as the host's, and run torch.distributed over Gloo."""
    monkeypatch.setattr(memory, "_tensor", lambda ptr, size, _device: host_tensor(ptr, size))
    monkeypatch.setattr(NcclTransport, "backend", "gloo")


def host_tensor(ptr: int, size: int) -> Tensor:
    return torch.frombuffer((ctypes.c_ubyte * size).from_address(ptr), dtype=torch.uint8)


def swept(
    group: dist.ProcessGroup,
    library: Path,
    progress: Progress | None = None,
    *,
    expandable_segments: bool = False,
    **options: Any,
) -> tuple[Record, list[Line]]:
    """Run one rank over the fake NCCL; return the record and its lines."""
    base = {"arms": [*OURS, *OTHERS], "sizes": "1K,4K", "timings": "eager", "rounds": 1, "max_rounds": 1}
    config = resolve("cuda", {**base, "ops_per_batch": 4, "warmup": 1, "dtypes": "float32", **options})
    return run_on_one_rank(
        config,
        group,
        nccl_device(library),
        progress or Progress(None, 0, 0),
        expandable_segments=expandable_segments,
    )


def faults(calls: Sequence[Call]) -> set[str]:
    """Return the faults in a run's calls about memory; every case has the arms ``WITH_TWIN``."""
    problems: set[str] = set()
    size = start = 0
    held: set[tuple[int | None, int | None]] = set()
    registered: set[int | None] = set()
    for call in calls:
        if call.function == "ncclMemAlloc":
            size, registered = call.size or 0, set()
        elif call.function in ("ncclCommRegister", "ncclCommWindowRegister"):
            start, is_window = call.pointer or 0, call.function == "ncclCommWindowRegister"
            held.add((call.comm, start + (1 if is_window else 2)))
            registered.add(call.comm)
            if call.size != size or call.flags != (1 if is_window else None):
                problems.add("registered as something else")
        elif call.function in ("ncclCommDeregister", "ncclCommWindowDeregister"):
            held.remove((call.comm, call.handle if call.window is None else call.window))
        elif call.function == "ncclAllReduce":
            assert call.send is not None
            if call.count != 1 and not start <= call.send < start + size:
                problems.add("used other memory")
        elif call.function == "ncclMemFree":
            if held:
                problems.add("freed while registered")
            if len(registered) != len(WITH_TWIN):
                problems.add("not registered with every communicator")
            size = 0
    return problems | ({"never freed"} if size else set()) | ({"never deregistered"} if held else set())


@EITHER
def test_the_slots_are_registered_with_every_communicator_of_this_package_and_given_back(
    how: Register, one_rank: dist.ProcessGroup, fake: FakeNccl
) -> None:
    record, lines = swept(one_rank, fake.path, register=how)
    assert faults(fake.calls()) == set()
    assert len(fake.calls("ncclMemAlloc")) == 2
    local, window = fake.calls("ncclCommRegister"), fake.calls("ncclCommWindowRegister")
    assert (len(local), len(window)) == ((0, 10) if how is Register.WINDOW else (10, 0))
    assert record.registrations == {
        **dict.fromkeys(WITH_TWIN, Registration.REGISTERED),
        **dict.fromkeys(OTHERS, Registration.ABSENT),
    }
    assert [line.wrong for line in lines if isinstance(line, Samples)] == [0] * 14


def forgets(patch: pytest.MonkeyPatch) -> None:
    for name in ("deregister_comm_window", "deregister_comm_memory"):
        patch.setattr(TransportCommunicator, name, lambda *_: None)


def frees_first(patch: pytest.MonkeyPatch) -> None:
    late: list[Callable[[], None]] = []
    free = NcclTransport.mem_free

    def frees(self: NcclTransport, ptr: int) -> None:
        free(self, ptr)
        while late:
            late.pop()()

    patch.setattr(NcclTransport, "mem_free", frees)
    for name in ("deregister", "window_deregister"):
        now: Any = getattr(NcclTransport, name)
        patch.setattr(NcclTransport, name, lambda *args, now=now: late.append(lambda: now(*args)))


def registers_the_first_alone(patch: pytest.MonkeyPatch) -> None:
    registration, is_first = TransportCommunicator.registration, cycle([True, *[False] * (len(WITH_TWIN) - 1)])
    patch.setattr(TransportCommunicator, "registration", lambda *args: registration(*args) if next(is_first) else None)


def forgets_to_free(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(NcclTransport, "mem_free", lambda *_: None)


def uses_torchs_memory(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(memory, "_tensor", lambda _ptr, size, _device: torch.empty(size, dtype=torch.uint8))


@EITHER
@pytest.mark.parametrize(
    ("defect", "fault"),
    [
        (forgets, "never deregistered"),
        (frees_first, "freed while registered"),
        (registers_the_first_alone, "not registered with every communicator"),
        (forgets_to_free, "never freed"),
        (uses_torchs_memory, "used other memory"),
    ],
)
def test_a_planted_defect_is_found(
    how: Register,
    defect: Callable[[pytest.MonkeyPatch], None],
    fault: str,
    one_rank: dist.ProcessGroup,
    fake: FakeNccl,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    defect(monkeypatch)
    swept(one_rank, fake.path, register=how)
    assert fault in faults(fake.calls())


def test_without_registration_the_slots_are_in_torchs_memory(one_rank: dist.ProcessGroup, fake: FakeNccl) -> None:
    record, _ = swept(one_rank, fake.path)
    assert fake.calls("ncclMemAlloc") == []
    assert record.registrations == {}


def test_nccls_memory_can_be_used_without_registration(one_rank: dist.ProcessGroup, fake: FakeNccl) -> None:
    record, lines = swept(one_rank, fake.path, memory="nccl")
    assert [len(fake.calls(name)) for name in ("ncclMemAlloc", "ncclMemFree", "ncclCommRegister")] == [2, 2, 0]
    assert record.registrations == {}
    assert {line.wrong for line in lines if isinstance(line, Samples)} == {0}


def test_torchs_memory_can_be_registered(one_rank: dist.ProcessGroup, fake: FakeNccl) -> None:
    record, lines = swept(one_rank, fake.path, memory="torch", register="local")
    assert fake.calls("ncclMemAlloc") == []
    used = {(call.send or 0) for call in fake.calls("ncclAllReduce") if call.count != 1}
    blocks = [(call.pointer or 0, call.size or 0) for call in fake.calls("ncclCommRegister")]
    assert all(any(start <= address < start + size for start, size in blocks) for address in used)
    assert len(fake.calls("ncclCommDeregister")) == len(blocks) == 2 * len(WITH_TWIN)
    assert {record.registrations[name] for name in WITH_TWIN} == {Registration.REGISTERED}
    assert {line.wrong for line in lines if isinstance(line, Samples)} == {0}


@pytest.mark.parametrize("options", [{"memory": "expandable"}, {"memory": "torch"}])
def test_a_case_that_can_hang_is_skipped_if_torch_has_expandable_segments(
    options: dict[str, str], one_rank: dist.ProcessGroup, fake: FakeNccl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "hang_in_graphs", lambda *_: "it can hang")
    with_graphs = {"timings": "eager,graph", "arms": "stream-free", **options}
    _, lines = swept(one_rank, fake.path, expandable_segments=True, **with_graphs)
    assert [line.reason for line in lines if isinstance(line, Skipped)] == ["it can hang"] * 2
    _, lines = swept(one_rank, fake.path, expandable_segments=True, arms="stream-free", **options)
    assert [line.kind for line in lines] == ["samples"] * 2


def test_a_torch_that_ignores_the_setting_is_refused(
    one_rank: dist.ProcessGroup, fake: FakeNccl, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = nccl_device(fake.path)
    with pytest.raises(SetupError, match="does not use expandable segments, although the setting for it was made"):
        memory.finds_expandable_segments(resolve("cuda", {"memory": "expandable"}), device)
    monkeypatch.setattr(type(device.streams), "has_expandable_segments", lambda _: True)
    assert memory.finds_expandable_segments(resolve("cuda", {"memory": "expandable"}), device)
    assert memory.finds_expandable_segments(resolve("cuda"), device)
    registers = resolve("cuda", {"memory": "torch", "register": "local"})
    with pytest.raises(SetupError, match="expandable segments, which --register local does not support"):
        memory.finds_expandable_segments(registers, device)


@EITHER
def test_a_null_handle_is_recorded_and_kept(how: Register, one_rank: dist.ProcessGroup, fake: FakeNccl) -> None:
    fake.set_null_handles(True)
    record, lines = swept(one_rank, fake.path, register=how)
    assert {record.registrations[name] for name in WITH_TWIN} == {Registration.UNAVAILABLE}
    assert fake.calls("ncclCommDeregister") == fake.calls("ncclCommWindowDeregister") == []
    assert len(fake.calls("ncclMemFree")) == 2
    assert {line.wrong for line in lines if isinstance(line, Samples)} == {0}


def test_memory_is_registered_with_one_arm_after_the_other(
    one_rank: dist.ProcessGroup, fake: FakeNccl, monkeypatch: pytest.MonkeyPatch
) -> None:
    visited: list[str] = []
    device = nccl_device(fake.path)
    arms = in_one_process_set({name: Arm(name, one_rank, device) for name in OURS}, one_rank)
    visit = arms.visit

    def failing_at_the_second(names: Sequence[str], phase: str) -> Iterator[str]:
        for name in visit(names, phase):
            visited.append(name)
            if name == OURS[1]:
                fake.fail_next("ncclCommWindowRegister", 3)
            yield name

    monkeypatch.setattr(arms, "visit", failing_at_the_second)
    with (
        pytest.raises(NcclError, match="ncclCommWindowRegister returned 3"),
        memory.slots_memory(Memory.NCCL, Register.WINDOW, 512, device, arms, OURS),
    ):
        pytest.fail("the body ran")
    assert visited == OURS[:2]
    for arm in arms.own.values():
        arm.close()


def test_after_a_failure_nothing_is_given_back(one_rank: dist.ProcessGroup, fake: FakeNccl) -> None:
    device = nccl_device(fake.path)
    arm = Arm("stream-free", one_rank, device)
    with (
        pytest.raises(PlantedError),
        memory.slots_memory(
            Memory.NCCL,
            Register.WINDOW,
            512,
            device,
            in_one_process_set({"stream-free": arm}, one_rank),
            ["stream-free"],
        ),
    ):
        raise PlantedError
    assert fake.calls("ncclCommWindowDeregister") == fake.calls("ncclMemFree") == []
    arm.close()


def test_an_old_nccl_is_refused_with_the_version_that_is_needed(
    one_rank: dist.ProcessGroup, tmp_path_factory: pytest.TempPathFactory
) -> None:
    old = build(tmp_path_factory.mktemp("old"), "-DOLD")
    with pytest.raises(TransportError, match=r"ncclMemAlloc needs NCCL 2\.19 or later, .* is 2\.12\.12"):
        swept(one_rank, old, register="local", arms="stream-free")


def test_a_failed_registration_is_blamed_on_its_arm(
    one_rank: dist.ProcessGroup, fake: FakeNccl, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: TransportCommunicator, ptr: int, size: int) -> None:
        raise PlantedError

    monkeypatch.setattr(DedicatedStreamCommunicator, "register_comm_memory", fails)
    progress = Progress(None, 0, 0)
    with pytest.raises(PlantedError):
        swept(one_rank, fake.path, progress, register="local", arms="stream-free,dedicated-stream")
    assert (progress.position.arm, progress.position.phase) == ("dedicated-stream", "registration")


@pytest.mark.parametrize("copies", [False, True])
def test_torch_reads_the_memory_in_place(copies: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real one
    given = bytearray(range(64))
    ptr = ctypes.addressof(ctypes.c_ubyte.from_buffer(given))

    def as_tensor(block: Any, device: torch.device) -> Tensor:
        described = block.__cuda_array_interface__
        assert (described["typestr"], described["version"], device.type) == ("|u1", 3, "cuda")
        (size,), (start, read_only) = described["shape"], described["data"]
        assert not read_only
        tensor = host_tensor(start, size)
        return tensor.clone() if copies else tensor

    monkeypatch.setattr(torch, "as_tensor", as_tensor)
    with pytest.raises(AssertionError, match="torch copied the memory") if copies else nullcontext():
        assert memory._tensor(ptr, 64, torch.device("cuda", 0)).tolist() == list(given)
