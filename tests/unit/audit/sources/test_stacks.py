"""Stacks: the line of the user's program, and the frames that are folded."""

from __future__ import annotations

import sys
import threading
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import torch

from nccl_bench.audit import watch
from nccl_bench.audit.sources.stacks import Stack, capture, capture_thread
from nccl_bench.streams import cpu
from tests.support.audited import found_at

pytestmark = pytest.mark.timeout(60)


def here() -> Stack:
    return capture()


def test_stacks_are_equal_if_all_calls_are() -> None:
    was_imported = "torch._inductor" in sys.modules
    first, second = (here() for _ in range(2))
    other = here()
    assert first == second
    assert hash(first) == hash(second)
    assert first != other
    assert ("torch._inductor" in sys.modules) is was_imported


def test_the_line_of_the_program_is_outside_of_torch_and_the_standard_library() -> None:
    stream, layer = cpu.Stream(), torch.nn.Linear(8, 8)
    with watch() as watched:
        stream.submit(layer.weight.detach().fill_, 1)  # write
        layer(torch.ones(1, 8))  # layer
    assert found_at(watched) == {("write", "layer")}
    (race,) = watched.races
    assert isinstance(race.second.work.where, Stack)
    frames = race.second.work.where.frames
    assert {frame.is_folded for frame in frames if "/torch/nn/" in frame.path} == {True}
    assert frames[0].path.endswith("linear.py")


def test_the_line_within_a_queued_function_comes_before_the_line_that_queued_it() -> None:
    first, second, tensor = cpu.Stream(), cpu.Stream(), torch.zeros(8)

    def work() -> None:
        tensor.fill_(1)  # in the function

    with watch() as watched:
        first.submit(work)
        second.submit(tensor.add_, 1)  # where it was queued
    assert found_at(watched) == {("in the function", "where it was queued")}


def test_files_of_an_engines_communicator_are_folded(tmp_path: Path) -> None:
    file = tmp_path / "engine" / "distributed" / "device_communicators" / "own.py"
    file.parent.mkdir(parents=True)
    file.write_text("def call(function, *args):\n    return function(*args)\n", encoding="utf-8")
    spec = spec_from_file_location("own", file)
    assert spec is not None
    assert spec.loader is not None
    module: Any = module_from_spec(spec)
    spec.loader.exec_module(module)
    stack = module.call(here)
    assert [frame.is_folded for frame in stack.frames[:3]] == [False, True, False]
    assert stack.frames[1].source == "return function(*args)"


def test_the_stack_of_another_thread_can_be_captured() -> None:
    go_on, thread = threading.Event(), threading.Thread(target=lambda: go_on.wait())  # in a thread
    thread.start()
    frame = capture_thread(thread.ident or 0).user_frame
    go_on.set()
    thread.join()
    assert frame is not None
    assert frame.source.endswith("# in a thread")
