"""The reads and writes of an operator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from nccl_bench.audit import declare_effects, watch
from nccl_bench.audit.order.actions import WorkLaunched
from nccl_bench.audit.sources import effects
from nccl_bench.audit.sources.ranges import MOST_BLOCKS, Touched, byte_ranges

A, B = torch.ones(4, 4), torch.ones(4, 4)
OUT = torch.empty(4, 4)


@pytest.mark.parametrize(
    ("call", "read", "written"),
    [
        (lambda: A.add_(B), {"B"}, {"A"}),
        (lambda: torch.add(A, B), {"A", "B"}, {"new"}),
        (lambda: torch.add(A, B, out=OUT), {"A", "B"}, {"OUT"}),
        (lambda: torch.mm(A, B, out=OUT), {"A", "B"}, {"OUT"}),
        (lambda: OUT.copy_(A), {"A"}, {"OUT"}),
        (lambda: torch.cat([A, B]), {"A", "B"}, {"new"}),
        (lambda: torch._foreach_add_([A, B], 1), set(), {"A", "B"}),
        (lambda: torch.zeros_like(A), set(), {"new"}),
        (lambda: torch.empty_like(A), set(), set()),
        (lambda: A.view(-1), set(), set()),
        (lambda: A[0, 0].item(), {"A"}, set()),
        (lambda: A.split(2), set(), set()),
    ],
)
def test_an_operator_reads_and_writes_what_its_schema_says(
    launched: list[WorkLaunched], call: Callable[[], object], read: set[str], written: set[str]
) -> None:
    with watch():
        kept = call()
    names = {each.data_ptr(): name for name, each in (("A", A), ("B", B), ("OUT", OUT))}

    def named(kind: str) -> set[str]:
        return {names.get(each.address, "new") for work in launched for each in getattr(work, kind)}

    assert (named("reads"), named("writes")) == (read, written), kept


def test_a_custom_operator_writes_what_it_declares(launched: list[WorkLaunched]) -> None:
    @torch.library.custom_op("audit_test::fill", mutates_args=("target",))
    def fill(target: Tensor, source: Tensor) -> None:
        target.copy_(source)

    with watch():
        fill(OUT, A)
    work = next(each for each in launched if each.work.name == "audit_test::fill")
    assert work.writes[0].address == OUT.data_ptr()
    assert work.reads[0].address == A.data_ptr()


@pytest.fixture
def declarations() -> Iterator[None]:
    yield
    effects._declared.clear()
    effects._operators.clear()


def test_declared_effects_replace_those_of_the_schema(launched: list[WorkLaunched], declarations: None) -> None:
    declare_effects("aten::mul", writes=("self",))
    with watch():
        torch.mul(A, B)
    (work,) = launched
    assert work.writes[0].address == A.data_ptr()
    assert work.reads[0].address == B.data_ptr()


MATRIX = torch.empty(6, 8)


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (MATRIX, [(0, 192)]),
        (MATRIX.t(), [(0, 192)]),
        (MATRIX[2:4], [(64, 64)]),
        (MATRIX[1:3, 2:5], [(40, 12), (72, 12)]),
        (MATRIX[::3, 0], [(0, 4), (96, 4)]),
        (MATRIX[:1].expand(5, 8), [(0, 32)]),
        (MATRIX[:0], []),
    ],
)
def test_the_ranges_of_a_tensor_are_exact(tensor: Tensor, expected: list[tuple[int, int]]) -> None:
    assert sorted((each.address - MATRIX.data_ptr(), each.length) for each in byte_ranges(tensor)) == expected


def test_a_tensor_with_very_many_blocks_is_one_span() -> None:
    matrix = torch.empty(MOST_BLOCKS + 1, 4)
    left, right, row = (byte_ranges(each) for each in (matrix[:, :2], matrix[:, 2:], matrix[3:4, 1:3]))
    assert [each.length for each in left] == [MOST_BLOCKS * 16 + 8]
    bias = byte_ranges(OUT)
    assert not Touched(writes=left, reads=bias).conflicts(Touched(writes=right, reads=bias))
    assert Touched(writes=left).conflicts(Touched(reads=row))
    assert Touched(reads=row).conflicts(Touched(writes=right))
    assert not Touched(reads=row).conflicts(Touched(reads=right))


@pytest.mark.parametrize(
    "tensor", [torch.empty(2, device="meta"), torch.eye(2).to_sparse(), torch.empty(0)], ids=["meta", "sparse", "empty"]
)
def test_a_tensor_without_bytes_has_no_range(tensor: Any) -> None:
    assert sum(each.length for each in byte_ranges(tensor)) == 0
