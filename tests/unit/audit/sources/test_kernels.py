"""Triton's kernels and nccl4py, with planted modules in place of the packages; and compiled functions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from nccl_bench.audit import declare_effects, watch
from nccl_bench.audit.sources import effects
from nccl_bench.streams import cpu
from nccl_bench.transports.nccl import DataType
from tests.support.audited import found_at
from tests.support.fake_nccl4py import Bindings

pytestmark = pytest.mark.timeout(60)


class JITFunction:
    """``triton.runtime.jit.JITFunction``, as far as a launch shows it."""

    arg_names = ("source", "target", "count")

    def __init__(self, name: str) -> None:
        self.fn = SimpleNamespace(__name__=name)

    def run(self, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        pass


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[JITFunction]:
    module: Any = ModuleType("triton.runtime.jit")
    module.JITFunction = JITFunction
    monkeypatch.setitem(sys.modules, "triton.runtime.jit", module)
    yield JITFunction("copy_kernel")
    effects._declared.clear()


def launch(kernel: JITFunction, **options: Any) -> set[tuple[str, str]]:
    source, target, stream = torch.zeros(8), torch.zeros(8), cpu.Stream()
    with watch() as watched:
        stream.submit(lambda: source + 1)  # read
        kernel.run(source, target, count=8, grid=(1,), warmup=False, **options)  # kernel
        stream.synchronize()
    return found_at(watched)


def test_all_tensors_of_a_kernel_count_as_written(kernel: JITFunction) -> None:
    assert launch(kernel) == {("read", "kernel")}


def test_a_declared_kernel_reads_what_it_does_not_write(kernel: JITFunction) -> None:
    declare_effects("copy_kernel", writes=("target",))
    assert not launch(kernel)


@pytest.fixture
def bindings(fake_nccl_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bindings:
    bindings = Bindings(fake_nccl_path)
    monkeypatch.setitem(sys.modules, "nccl.bindings.nccl", bindings)
    return bindings


def test_a_collective_of_nccl4py_on_a_stream_without_a_fork_is_one_race(bindings: Any) -> None:
    comm = bindings.comm_init_rank_scalable(1, 0, 1, bytes(128), 0)
    tensor, first, second = torch.zeros(8), cpu.Stream(), cpu.Stream()
    address = tensor.data_ptr()
    with watch() as watched:
        first.submit(tensor.fill_, 1)  # write
        bindings.all_reduce(address, address, 8, DataType.FLOAT32.value, 0, comm, second.handle)  # collective
    assert found_at(watched) == {("write", "collective")}
    assert [race.count for race in watched.races] == [1]


@pytest.mark.skipif(not hasattr(torch.compiler, "set_stance"), reason="this torch cannot force eager mode")
def test_compiled_functions_are_seen_because_they_run_eagerly() -> None:
    tensor, stream = torch.zeros(8), cpu.Stream()
    with watch() as watched:
        compiled = torch.compile(lambda tensor: tensor + 1, fullgraph=True, backend="eager")  # compiled code
        stream.submit(tensor.fill_, 1)  # write
        compiled(tensor)
    assert found_at(watched) == {("write", "compiled code")}
    assert torch._dynamo.eval_frame._stance.stance == "default"
