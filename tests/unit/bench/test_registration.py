"""The registration of an arm's buffers by NCCL: calls outside the timed ones, and the log's lines about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import pytest
import torch.distributed as dist

from nccl_bench.bench.context import CaseContext
from nccl_bench.bench.registration import find_registered
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.run import resolve
from nccl_bench.ranks.progress import Progress
from nccl_bench.records.schema import BuffersRegistered, Samples
from nccl_bench.transports.nccl import NcclTransport
from nccl_bench.transports.nccl_log import NcclLog
from tests.support.communicators import nccl_device
from tests.support.fake_nccl import FakeNccl, build
from tests.support.one_rank_run import run_on_one_rank

NAME = "stream-free"
INFO = "vm:2072:2081 [0] NCCL INFO "
CALL = f"{INFO}AllGather: opCount 0 sendbuff 0x1 recvbuff 0x2 count 4 datatype 9 op 0 root 0 comm 0x3"
USES = f"{INFO}rank 0 - IPC reuse buffer 0x2 size 8388608 (baseAddr 0x2 size 536870912) to peer 1 regAddr 0x7"
FAILS = f"{INFO}rank 0 failed to IPC register userbuff 0x2 buffSize 8388608 nPeers 1 isLegacyIpc 0 type POSIX_FD"
SYMMETRIC = f"{INFO}AllGather [Symmetric]: 8388608 Bytes -> Kernel AllGather_ST nchannels 8 nthreads 512 nWorks 1"
SLOTS = 4


class FakeContext:
    """The parts of a case's context that ``find_registered`` uses, for one arm on rank 0 of two; it is also its log."""

    reason_absent: str | None = None

    def __init__(self, lines_of: Callable[[int, bool], list[str]]) -> None:
        self._lines_of = lines_of
        self._written: list[str] = []
        self._captures = self.is_on = False
        self.made = self.resets = 0
        self.log = self.arms = self.control = self.buffers = self.streams = self.ranks = self.own_set = self
        self.slots, self.world_size = SLOTS, 2

    def visit(self, names: Sequence[str], _phase: str) -> Iterator[str]:
        yield from names

    def __getitem__(self, name: str) -> FakeContext:
        assert name == NAME
        return self

    def sum(self, values: list[int]) -> list[int]:
        """Add the values of rank 1, whose log has the same lines except those that rank 0 writes for all ranks."""
        calls, with_registered = values
        return [2 * calls, with_registered if with_registered > calls else 2 * with_registered]

    def calls(self, _name: str, operations: int) -> list[Callable[[], None]]:
        return [lambda slot=slot: self._call(slot) for slot in range(operations)]

    def _call(self, slot: int) -> None:
        self.made += 1
        if self.is_on:
            self._written += self._lines_of(slot, self._captures)

    def capture(self, body: Callable[[], None]) -> FakeContext:
        self._captures = True
        body()
        self._captures = False
        return self

    def reset(self) -> None:
        self.resets += 1

    @contextmanager
    def switched_on(self, _subsystems: Sequence[str]) -> Iterator[Callable[[], list[str]]]:
        def new_lines() -> list[str]:
            lines, self._written = self._written, []
            return lines

        self.is_on = True
        yield new_lines
        self.is_on = False

    def synchronize(self) -> None: ...

    def restore(self, operations: int) -> None: ...


def found(context: FakeContext) -> dict[Timing, str]:
    registered = find_registered(cast(CaseContext, context), [NAME], list(Timing))
    return {timing: str(registered[NAME, timing]) for timing in Timing}


@pytest.mark.parametrize(
    ("lines_of", "eager", "graph"),
    [
        (lambda _slot, _captures: [CALL], "no", "no"),
        (lambda _slot, _captures: [CALL, USES], "yes", "yes"),
        (lambda _slot, captures: [CALL, USES] if captures else [CALL], "no", "yes"),
        (lambda slot, captures: [CALL, USES] if captures and slot % 2 else [CALL], "no", "partly"),
        (lambda _slot, _captures: [CALL, FAILS], "no", "no"),
        (lambda _slot, _captures: [CALL, SYMMETRIC], "yes", "yes"),
        (lambda _slot, _captures: [], "unknown", "unknown"),
        (lambda _slot, _captures: [FAILS], "unknown", "unknown"),
    ],
)
def test_the_lines_of_each_call_decide(lines_of: Callable[[int, bool], list[str]], eager: str, graph: str) -> None:
    context = FakeContext(lines_of)
    assert found(context) == {
        Timing.EAGER: eager,
        Timing.GATED: eager,
        Timing.GRAPH: graph,
        Timing.ENQUEUE: eager,
    }
    # One eager call; a captured call for each slot, in a graph that is reset and not replayed.
    assert (context.made, context.resets) == (1 + SLOTS, 1)
    assert not context.is_on


def test_without_a_log_no_call_is_made_and_the_answer_is_unknown() -> None:
    context = FakeContext(lambda _slot, _captures: [CALL])
    context.reason_absent = "an old NCCL"
    assert set(found(context).values()) == {"unknown"}
    assert context.made == 0


@pytest.mark.parametrize(("about_buffers", "ours"), [("", "no"), (USES.removeprefix(INFO), "yes")])
def test_samples_have_what_the_log_says(
    about_buffers: str,
    ours: str,
    one_rank: dist.ProcessGroup,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = build(tmp_path_factory.mktemp("log"), "-DLOG")
    FakeNccl(library).set_log_about_buffers(about_buffers)
    # torch.distributed runs over Gloo, which writes no log of NCCL.
    monkeypatch.setattr(NcclTransport, "backend", "gloo")
    options: dict[str, Any] = {"arms": "stream-free,torch", "sizes": "1K", "timings": "eager,gated", "rounds": 1}
    config = resolve("cuda", {**options, "max_rounds": 1, "ops_per_batch": 4, "dtypes": "float32"})
    log = NcclLog([str(library)])
    _, lines = run_on_one_rank(config, one_rank, nccl_device(library), Progress(None, 0, 0), log=log)
    registered = {(line.arm, line.registered) for line in lines if isinstance(line, Samples)}
    assert registered == {
        *((name, BuffersRegistered(ours)) for name in ("stream-free", "stream-free:twin")),
        ("torch", BuffersRegistered.UNKNOWN),
    }


def test_without_nccl_samples_say_nothing_about_buffers(one_rank: dist.ProcessGroup, fake: FakeNccl) -> None:
    config = resolve("cuda", {"arms": "stream-free", "sizes": "1K", "timings": "eager", "rounds": 1, "max_rounds": 1})
    _, lines = run_on_one_rank(config, one_rank, nccl_device(fake.path), Progress(None, 0, 0))
    assert [line.registered for line in lines if isinstance(line, Samples)] == [None]
