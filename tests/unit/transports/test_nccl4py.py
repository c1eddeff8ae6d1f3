"""The transport over a stand-in for nccl4py, and over nccl4py itself if it is installed."""

from __future__ import annotations

import ctypes
import inspect
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.errors import NcclError, SetupError
from nccl_bench.transports.nccl import DataType, NcclTransport, ReduceOp
from nccl_bench.transports.nccl4py import VERSION, Nccl4pyTransport
from nccl_bench.transports.nccl_library import LibrarySource, NcclLibrary
from tests.support import fake_nccl4py
from tests.support.fake_nccl import Call, FakeNccl, build
from tests.support.transport_calls import COPIES, COUNT, ON_A_COMM, RECV, SEND, STREAM, WITHOUT_COMM

# Set in a separate process: nccl4py uses the first libnccl of a process, and the tests load several.
REAL = "NCCL_BENCH_TESTS_REAL_NCCL4PY"
IS_REAL = REAL in os.environ


@pytest.fixture
def transport(fake: FakeNccl, monkeypatch: pytest.MonkeyPatch) -> Nccl4pyTransport:
    """Return a transport over nccl4py in the process for that, and over the stand-in elsewhere."""
    if not IS_REAL:
        fake_nccl4py.install(monkeypatch, fake.path)
    return Nccl4pyTransport(_library(fake.path))


@pytest.fixture
def stand_in(fake: FakeNccl, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    if IS_REAL:
        pytest.skip("tests the stand-in")
    fake_nccl4py.install(monkeypatch, fake.path)
    return monkeypatch


def _library(path: Path) -> NcclLibrary:
    return NcclLibrary(path=str(path), source=LibrarySource.ARGUMENT)


def _comm(transport: Nccl4pyTransport, world_size: int = 3) -> int:
    return transport.init_rank(world_size, transport.unique_id(), 0)


def _why_not_real() -> str | None:
    if IS_REAL:
        return "this is that process"
    try:
        installed = metadata.version("nccl4py")
    except metadata.PackageNotFoundError:
        return f"nccl4py {VERSION} is not installed"
    if installed != VERSION:
        return f"nccl4py is {installed}, not {VERSION}"
    # nccl4py would use torch's library and not the fake one. tests/gpu tests it there.
    return "this machine has a GPU" if torch.cuda.is_available() else None


@pytest.mark.skipif(_why_not_real() is not None, reason=str(_why_not_real()))
def test_the_tests_of_the_stand_in_pass_with_nccl4py_itself() -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", __file__]
    done = subprocess.run(command, env=os.environ | {REAL: "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout)


@pytest.mark.skipif(not IS_REAL, reason="needs nccl4py itself, in a process of its own")
def test_the_stand_in_has_nccl4pys_signatures(fake: FakeNccl) -> None:
    core, bindings = import_module("nccl.core"), import_module("nccl.bindings.nccl")
    stand_in = fake_nccl4py.Bindings(fake.path)
    public = fake_nccl4py.core(stand_in).Communicator
    functions = [name for name in vars(fake_nccl4py.Bindings) if not name.startswith("_")]
    assert "all_reduce" in functions
    for name in functions:
        assert list(inspect.signature(getattr(stand_in, name)).parameters) == _documented(getattr(bindings, name)), name
    methods = [name for name in vars(public) if inspect.isfunction(vars(public)[name]) and name != "__init__"]
    for name in ["__init__", "init", *methods]:
        ours, real = (inspect.signature(getattr(kind, name)).parameters for kind in (public, core.Communicator))
        assert [(p.name, p.kind) for p in ours.values()] == [(p.name, p.kind) for p in real.values()], name


def _documented(function: Callable[..., object]) -> list[str]:
    """The arguments of a Cython function, which keeps them in its docstring alone: ``f(int a, b) -> int``."""
    arguments = (function.__doc__ or "").split("(")[1].split(")")[0]
    return [argument.split()[-1] for argument in arguments.split(",") if argument]


@pytest.mark.skipif(not IS_REAL, reason="needs nccl4py itself, in a process of its own")
def test_data_types_and_reductions_have_the_numbers_of_nccl4py() -> None:
    core = import_module("nccl.core")
    renamed = {"FLOAT8_E4M3FN": "FLOAT8E4M3", "FLOAT8_E5M2": "FLOAT8E5M2"}
    for member in DataType:
        assert core.NcclDataType[renamed.get(member.name, member.name)] == member
    assert {op.name: op.value for op in core.NcclRedOp} == {op.name: op.value for op in ReduceOp}


# The transport


@pytest.mark.parametrize(("call", "expected"), ON_A_COMM, ids=[expected.function for _, expected in ON_A_COMM])
def test_every_argument_arrives_in_its_place(
    transport: Nccl4pyTransport, fake: FakeNccl, call: Callable[[Any, int], object], expected: Call
) -> None:
    comm = _comm(transport)
    fake.reset()
    call(transport, comm)
    assert fake.calls() == [replace(expected, comm=comm)]


FAILING = [*((call, expected.function) for call, expected in ON_A_COMM), *WITHOUT_COMM]


@pytest.mark.parametrize(("call", "function"), FAILING, ids=[function for _, function in FAILING])
def test_a_failure_names_the_function_the_text_and_the_last_error(
    transport: Nccl4pyTransport, fake: FakeNccl, call: Callable[[Any, int], object], function: str
) -> None:
    comm = _comm(transport)
    fake.fail_next(function, 5)
    fake.set_last_error("peer 3 is gone")
    with pytest.raises(NcclError) as raised:
        call(transport, comm)
    assert (raised.value.function, raised.value.result) == (function, 5)
    assert str(raised.value) == f"{function} returned 5 (invalid usage): peer 3 is gone"


def test_all_bytes_of_the_unique_id_reach_init_rank(transport: Nccl4pyTransport, fake: FakeNccl) -> None:
    unique_id = transport.unique_id()
    assert unique_id == bytes(0 if i == 64 else i + 1 for i in range(128))
    transport.init_rank(4, unique_id, 3)
    [call] = fake.calls("ncclCommInitRank")
    assert (call.nranks, call.rank, call.id) == (4, 3, unique_id)


@pytest.mark.parametrize("end", [Nccl4pyTransport.destroy, Nccl4pyTransport.abort])
@pytest.mark.parametrize("failing", [False, True])
def test_a_freed_communicator_is_forgotten_even_if_nccl_fails(
    transport: Nccl4pyTransport, fake: FakeNccl, end: Callable[[Nccl4pyTransport, int], None], failing: bool
) -> None:
    comm = _comm(transport)
    if failing:
        fake.fail_next("ncclCommDestroy" if end is Nccl4pyTransport.destroy else "ncclCommAbort", 5)
        with pytest.raises(NcclError):
            end(transport, comm)
    else:
        end(transport, comm)
    fake.reset()
    with pytest.raises(KeyError):
        transport.destroy(comm)
    assert fake.calls() == []


def test_registered_memory_has_a_handle_and_a_null_handle_is_visible(
    transport: Nccl4pyTransport, fake: FakeNccl
) -> None:
    comm = _comm(transport)
    ptr = transport.mem_alloc(64)
    assert transport.window_register(comm, ptr, 64) == ptr + 1
    assert transport.register(comm, ptr, 64) == ptr + 2
    fake.set_null_handles(True)
    assert transport.window_register(comm, ptr, 64) is None
    assert transport.register(comm, ptr, 64) == 0
    transport.mem_free(ptr)
    assert (fake.calls("ncclMemAlloc")[0].size, fake.calls("ncclMemFree")[0].pointer) == (64, ptr)


def test_a_group_closes_and_raises_the_failure_of_group_end(transport: Nccl4pyTransport, fake: FakeNccl) -> None:
    with transport.group(), transport.group():
        assert fake.group_depth() == 2
    with pytest.raises(KeyboardInterrupt), transport.group():
        raise KeyboardInterrupt
    fake.fail_next("ncclGroupEnd", 2)
    with pytest.raises(NcclError, match="ncclGroupEnd returned 2"), transport.group():
        pass
    assert fake.group_depth() == 0


@pytest.mark.parametrize("function", ["ncclGroupStart", "ncclSend", "ncclRecv", "ncclGroupEnd"])
def test_a_failed_send_recv_names_the_function_and_leaves_no_group_open(
    transport: Nccl4pyTransport, fake: FakeNccl, function: str
) -> None:
    comm = _comm(transport)
    fake.reset()
    transport.send_recv(SEND, 3, 7, 1, RECV, 4, 9, 2, comm, STREAM)
    assert fake.calls() == [
        Call(function="ncclGroupStart", depth=0),
        Call(function="ncclSend", depth=1, send=SEND, count=3, dtype=7, peer=1, comm=comm, stream=STREAM),
        Call(function="ncclRecv", depth=1, recv=RECV, count=4, dtype=9, peer=2, comm=comm, stream=STREAM),
        Call(function="ncclGroupEnd", depth=1),
    ]
    fake.fail_next(function, 6)
    with pytest.raises(NcclError, match=f"{function} returned 6"):
        transport.send_recv(SEND, 3, 7, 1, RECV, 4, 9, 2, comm, STREAM)
    assert fake.group_depth() == 0


def test_the_direct_all_reduce_makes_the_same_call_and_its_failure_can_be_translated(
    transport: Nccl4pyTransport, fake: FakeNccl
) -> None:
    comm = _comm(transport)
    function, direct_comm = transport.direct_all_reduce(comm)
    fake.reset()
    transport.all_reduce(SEND, RECV, COUNT, 4, 5, comm, STREAM)
    function(SEND, RECV, COUNT, 4, 5, direct_comm, STREAM)
    through_the_method, directly = fake.calls()
    assert directly == through_the_method
    fake.fail_next("ncclAllReduce", 6)
    with pytest.raises(transport.failures) as raised:
        function(SEND, RECV, COUNT, 4, 5, direct_comm, STREAM)
    assert str(transport.translated("ncclAllReduce", raised.value)).startswith("ncclAllReduce returned 6")


@pytest.mark.parametrize("operation", COPIES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_on_one_rank_a_collective_copies(transport: Nccl4pyTransport, operation: str, dtype: str) -> None:
    comm = _comm(transport, world_size=1)
    size = 5 * DTYPES[dtype].itemsize
    source = ctypes.create_string_buffer(bytes(range(1, size + 1)), size)
    target = ctypes.create_string_buffer(size + 1)
    copy: Callable[..., None] = COPIES[operation]
    copy(transport, ctypes.addressof(source), ctypes.addressof(target), 5, transport.dtypes[dtype], comm)
    assert target.raw == source.raw + b"\0"
    transport.destroy(comm)


def test_both_bindings_use_the_same_numbers() -> None:
    assert Nccl4pyTransport.dtypes == NcclTransport.dtypes
    assert Nccl4pyTransport.redops == NcclTransport.redops
    assert Nccl4pyTransport.name != NcclTransport.name


def test_describe_names_nccl4py_and_its_library(transport: Nccl4pyTransport, fake: FakeNccl) -> None:
    assert transport.version == 22809
    assert transport.describe() == {
        "name": "nccl4py",
        "path": str(fake.path),
        "version": "2.28.9",
        "source": "--nccl-library",
    }


def _refusal(chosen: Path, named: Path) -> str:
    return re.escape(f"nccl4py uses {chosen}, the first libnccl of the process, and the other calls use {named}: ")


@pytest.mark.skipif(not IS_REAL, reason="needs nccl4py itself, in a process of its own")
def test_nccl4py_keeps_the_first_library_and_another_is_refused(
    transport: Nccl4pyTransport, fake: FakeNccl, tmp_path: Path
) -> None:
    second = build(tmp_path)
    with pytest.raises(SetupError, match=_refusal(fake.path, second)):
        Nccl4pyTransport(_library(second))


def test_nccl4py_with_another_library_is_refused_and_a_link_is_no_other(
    stand_in: pytest.MonkeyPatch, fake: FakeNccl, tmp_path: Path
) -> None:
    link = tmp_path / "link.so"
    link.symlink_to(fake.path)
    assert Nccl4pyTransport(_library(link)).describe()["path"] == str(link)
    named = build(tmp_path)
    with pytest.raises(SetupError, match=_refusal(fake.path, named)):
        Nccl4pyTransport(_library(named))


def test_an_all_to_all_of_an_old_nccl_is_a_group_of_sends_and_receives(
    stand_in: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = FakeNccl(build(tmp_path, "-DOLD"))
    fake_nccl4py.install(stand_in, old.path)
    transport = Nccl4pyTransport(_library(old.path))
    comm = _comm(transport, world_size=2)
    old.reset()
    transport.all_to_all(SEND, RECV, 3, 7, comm, STREAM)
    assert [(call.function, call.depth, call.peer) for call in old.calls()] == [
        ("ncclGroupStart", 0, None),
        ("ncclSend", 1, 0),
        ("ncclRecv", 1, 0),
        ("ncclSend", 1, 1),
        ("ncclRecv", 1, 1),
        ("ncclGroupEnd", 1, None),
    ]


# What is missing


@pytest.mark.parametrize(
    ("installed", "message"),
    [
        (None, f"nccl4py {VERSION} is not installed: pip install nccl4py=={VERSION}"),
        (
            "0.3.1",
            f"nccl4py 0.3.1 is installed, and nccl-bench needs exactly {VERSION}: pip install nccl4py=={VERSION}",
        ),
    ],
)
def test_missing_nccl4py_or_another_version_is_an_error_in_one_line(
    stand_in: pytest.MonkeyPatch, fake: FakeNccl, installed: str | None, message: str
) -> None:
    fake_nccl4py.pretend_version(stand_in, installed)
    with pytest.raises(SetupError, match=f"^{re.escape(message)}$"):
        Nccl4pyTransport(_library(fake.path))


@pytest.mark.parametrize("module", ["nccl.bindings.nccl", "nccl.bindings._internal.utils"])
def test_nccl4py_that_cannot_be_imported_is_an_error_in_one_line(
    stand_in: pytest.MonkeyPatch, fake: FakeNccl, module: str
) -> None:
    stand_in.setitem(sys.modules, module, None)
    hint = f"pip install nccl4py=={VERSION}, and a CUDA build of torch"
    with pytest.raises(SetupError, match=rf"^nccl4py {VERSION} cannot be imported \(.*{module}.*\): {hint}$"):
        Nccl4pyTransport(_library(fake.path))


def test_nccl4py_without_libnccl_is_an_error_in_one_line(stand_in: pytest.MonkeyPatch, fake: FakeNccl) -> None:
    def not_found(self: object) -> str:
        raise RuntimeError('Failure finding "libnccl.so.2":\n  No such file')

    stand_in.setattr(fake_nccl4py.Bindings, "get_library_path", not_found)
    with pytest.raises(SetupError) as raised:
        Nccl4pyTransport(_library(fake.path))
    reason = 'Failure finding "libnccl.so.2": No such file'
    assert str(raised.value) == (f"nccl4py finds no libnccl ({reason}): name a libnccl.so.2 with --nccl-library")


def test_the_extra_installs_the_pinned_version() -> None:
    pyproject = tomllib.loads(Path(__file__).parents[3].joinpath("pyproject.toml").read_text())
    assert pyproject["project"]["optional-dependencies"]["nccl4py"] == [f"nccl4py=={VERSION}"]
