from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.errors import NcclError, SetupError, TransportError
from nccl_bench.transports.nccl import DataType, NcclTransport, ReduceOp
from nccl_bench.transports.nccl_library import LibrarySource, NcclLibrary
from tests.support.fake_nccl import Call, FakeNccl, build
from tests.support.transport_calls import (
    ANY_CALL,
    COPIES,
    ON_A_COMM,
    Lifetime,
)


def _transport(path: Path) -> NcclTransport:
    return NcclTransport(NcclLibrary(path=str(path), source=LibrarySource.ARGUMENT))


@pytest.fixture
def transport(fake: FakeNccl) -> NcclTransport:
    return _transport(fake.path)


@pytest.fixture(scope="module")
def old_nccl_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("old_nccl"), "-DOLD")


@pytest.fixture
def old_fake(old_nccl_path: Path) -> FakeNccl:
    fake = FakeNccl(old_nccl_path)
    fake.reset()
    return fake


@pytest.fixture
def old_transport(old_fake: FakeNccl) -> NcclTransport:
    return _transport(old_fake.path)


def _comm(transport: NcclTransport, world_size: int = 3) -> int:
    return transport.init_rank(world_size, transport.unique_id(), 0)


def _functions(pairs: list[tuple[Lifetime, Call]]) -> list[str]:
    return [expected.function for _, expected in pairs]


@pytest.mark.parametrize(("call", "expected"), ON_A_COMM, ids=_functions(ON_A_COMM))
def test_every_argument_arrives_in_its_place(
    transport: NcclTransport, fake: FakeNccl, call: Lifetime, expected: Call
) -> None:
    comm = _comm(transport)
    fake.reset()
    call(transport, comm)
    [got] = fake.calls()
    assert got == _with_comm(expected, comm)


def _with_comm(call: Call, comm: int) -> Call:
    fields = {name: getattr(call, name) for name in Call.__dataclass_fields__}
    return Call(**{**fields, "comm": comm})


@pytest.mark.parametrize(("call", "function"), ANY_CALL, ids=[function for _, function in ANY_CALL])
def test_a_failure_names_the_function_the_text_and_the_last_error(
    transport: NcclTransport, fake: FakeNccl, call: Lifetime, function: str
) -> None:
    comm = _comm(transport)
    fake.fail_next(function, 5)
    fake.set_last_error("peer 3 is gone")
    with pytest.raises(NcclError) as raised:
        call(transport, comm)
    assert (raised.value.function, raised.value.result) == (function, 5)
    assert str(raised.value) == f"{function} returned 5 (invalid usage): peer 3 is gone"


def test_a_failure_on_a_library_without_last_error_has_only_the_text(
    old_transport: NcclTransport, old_fake: FakeNccl
) -> None:
    old_fake.fail_next("ncclGroupStart", 3)
    with pytest.raises(NcclError, match=re.escape("ncclGroupStart returned 3 (internal error)") + "$"):
        old_transport.group_start()


def test_the_enums_have_the_numbers_of_nccl_h() -> None:
    assert {member.name: member.value for member in DataType} == {
        "INT8": 0,
        "UINT8": 1,
        "INT32": 2,
        "UINT32": 3,
        "INT64": 4,
        "UINT64": 5,
        "FLOAT16": 6,
        "FLOAT32": 7,
        "FLOAT64": 8,
        "BFLOAT16": 9,
        "FLOAT8_E4M3FN": 10,
        "FLOAT8_E5M2": 11,
    }
    assert {member.name: member.value for member in ReduceOp} == {"SUM": 0, "PROD": 1, "MAX": 2, "MIN": 3, "AVG": 4}


def test_each_data_type_and_reduction_has_a_plain_number() -> None:
    assert set(NcclTransport.dtypes) == set(DTYPES)
    assert set(NcclTransport.redops) == set(RedOp)
    assert NcclTransport.dtypes["float8_e4m3fn"] == 10
    assert NcclTransport.redops[RedOp.MIN] == 3
    numbers = [*NcclTransport.dtypes.values(), *NcclTransport.redops.values()]
    assert {type(number) for number in numbers} == {int}


def test_the_library_describes_itself(transport: NcclTransport, fake: FakeNccl) -> None:
    assert transport.version == 22809
    assert transport.describe() == {
        "name": "nccl",
        "path": str(fake.path),
        "version": "2.28.9",
        "source": "--nccl-library",
    }


def test_a_library_that_is_not_nccl_is_refused() -> None:
    with pytest.raises(SetupError, match=r"libm\.so\.6 \(system\) is not a usable libnccl: it has no ncclGetVersion"):
        NcclTransport(NcclLibrary(path="libm.so.6", source=LibrarySource.SYSTEM))


def test_all_bytes_of_the_unique_id_reach_init_rank(transport: NcclTransport, fake: FakeNccl) -> None:
    unique_id = transport.unique_id()
    # The fake's id has a NUL byte in the middle, where a C string would end.
    assert unique_id == bytes(0 if i == 64 else i + 1 for i in range(128))
    transport.init_rank(4, unique_id, 3)
    [call] = fake.calls("ncclCommInitRank")
    assert (call.nranks, call.rank, call.id) == (4, 3, unique_id)


def test_registered_memory_has_a_handle_and_a_null_handle_is_visible(transport: NcclTransport, fake: FakeNccl) -> None:
    comm = _comm(transport)
    ptr = transport.mem_alloc(64)
    assert transport.window_register(comm, ptr, 64) == ptr + 1
    assert fake.calls("ncclCommWindowRegister")[0].flags == 0
    assert transport.register(comm, ptr, 64) == ptr + 2
    fake.set_null_handles(True)
    assert transport.window_register(comm, ptr, 64) is None
    assert transport.register(comm, ptr, 64) == 0
    transport.mem_free(ptr)
    assert (fake.calls("ncclMemAlloc")[0].size, fake.calls("ncclMemFree")[0].pointer) == (64, ptr)


def test_groups_nest_and_close(transport: NcclTransport, fake: FakeNccl) -> None:
    comm = _comm(transport)
    with transport.group(), transport.group():
        transport.send(1, 1, DataType.INT8, 0, comm, 0)
        assert fake.group_depth() == 2
    assert fake.group_depth() == 0
    assert fake.calls("ncclSend")[0].depth == 2


def test_a_group_closes_when_its_body_raises(transport: NcclTransport, fake: FakeNccl) -> None:
    with pytest.raises(KeyboardInterrupt), transport.group(), transport.group():
        raise KeyboardInterrupt
    assert fake.group_depth() == 0


def test_a_failed_group_end_becomes_a_note_on_the_exception_of_the_body(
    transport: NcclTransport, fake: FakeNccl
) -> None:
    fake.fail_next("ncclGroupEnd", 5)
    with pytest.raises(ZeroDivisionError) as raised, transport.group():
        raise ZeroDivisionError
    [note] = raised.value.__notes__
    assert note.endswith("ncclGroupEnd returned 5 (invalid usage)")
    assert fake.group_depth() == 0


def test_a_group_that_fails_to_close_raises(transport: NcclTransport, fake: FakeNccl) -> None:
    fake.fail_next("ncclGroupEnd", 2)
    with pytest.raises(NcclError, match="ncclGroupEnd returned 2"), transport.group():
        pass
    assert fake.group_depth() == 0


def test_a_group_that_does_not_open_is_not_closed(transport: NcclTransport, fake: FakeNccl) -> None:
    fake.fail_next("ncclGroupStart", 2)
    with pytest.raises(NcclError, match="ncclGroupStart"), transport.group():
        pytest.fail("the body ran")
    assert fake.calls("ncclGroupEnd") == []


def test_all_to_all_on_an_old_library_is_one_group_of_sends_and_receives(
    old_transport: NcclTransport, old_fake: FakeNccl
) -> None:
    comm = _comm(old_transport, world_size=3)
    old_fake.reset()
    old_transport.all_to_all(1000, 2000, 10, DataType.BFLOAT16, comm, 77)
    calls = old_fake.calls()
    assert [call.function for call in calls if call.depth == 0] == ["ncclGroupStart"]
    assert [(call.peer, call.send, call.count) for call in old_fake.calls("ncclSend")] == [
        (0, 1000, 10),
        (1, 1020, 10),
        (2, 1040, 10),
    ]
    assert [(call.peer, call.recv, call.count) for call in old_fake.calls("ncclRecv")] == [
        (0, 2000, 10),
        (1, 2020, 10),
        (2, 2040, 10),
    ]
    transfers = [call for call in calls if call.function in ("ncclSend", "ncclRecv")]
    assert {(call.depth, call.dtype, call.comm, call.stream) for call in transfers} == {(1, 9, comm, 77)}
    assert (calls[-1].function, old_fake.group_depth()) == ("ncclGroupEnd", 0)


@pytest.mark.parametrize("end", [NcclTransport.destroy, NcclTransport.abort])
def test_the_rank_count_of_a_freed_communicator_is_forgotten(
    old_transport: NcclTransport, old_fake: FakeNccl, end: Callable[[NcclTransport, int], None]
) -> None:
    comm = _comm(old_transport, world_size=3)
    old_transport.all_to_all(1, 2, 1, DataType.INT8, comm, 0)
    end(old_transport, comm)
    again = _comm(old_transport, world_size=2)
    assert again == comm  # the fake hands out the address again, as an allocator may
    old_fake.reset()
    old_transport.all_to_all(1, 2, 1, DataType.INT8, again, 0)
    assert len(old_fake.calls("ncclSend")) == 2


@pytest.mark.parametrize(
    ("call", "function", "since"),
    [
        (lambda t, comm: t.mem_alloc(8), "ncclMemAlloc", "2.19"),
        (lambda t, comm: t.mem_free(8), "ncclMemFree", "2.19"),
        (lambda t, comm: t.register(comm, 8, 8), "ncclCommRegister", "2.19"),
        (lambda t, comm: t.deregister(comm, 8), "ncclCommDeregister", "2.19"),
        (lambda t, comm: t.window_register(comm, 8, 8), "ncclCommWindowRegister", "2.27"),
        (lambda t, comm: t.window_deregister(comm, 8), "ncclCommWindowDeregister", "2.27"),
    ],
)
def test_a_missing_function_names_the_nccl_version_that_has_it(
    old_transport: NcclTransport, call: Lifetime, function: str, since: str
) -> None:
    comm = _comm(old_transport)
    with pytest.raises(TransportError, match=rf"^{function} needs NCCL {re.escape(since)} or later, .* is 2\.12\.12"):
        call(old_transport, comm)


@pytest.mark.parametrize("library", ["full", "old"])
@pytest.mark.parametrize("operation", COPIES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_on_one_rank_a_collective_copies(
    request: pytest.FixtureRequest, library: str, operation: str, dtype: str
) -> None:
    transport: NcclTransport = request.getfixturevalue("transport" if library == "full" else "old_transport")
    comm = _comm(transport, world_size=1)
    size = 5 * DTYPES[dtype].itemsize
    source = ctypes.create_string_buffer(bytes(range(1, size + 1)), size)
    target = ctypes.create_string_buffer(size + 1)
    COPIES[operation](
        transport, ctypes.addressof(source), ctypes.addressof(target), 5, NcclTransport.dtypes[dtype], comm
    )
    assert target.raw == source.raw + b"\0"
