"""The reading of NCCL's log of calls outside the timed ones: registered buffers, and the kernels that NCCL ran."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import pytest
import torch.distributed as dist

from nccl_bench.bench.context import CaseContext
from nccl_bench.bench.logged_calls import Logged, read_log
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.run import resolve
from nccl_bench.ranks.progress import Progress
from nccl_bench.records.kernels import Kernels
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
RING = f"{INFO}AllGather: 8388608 Bytes -> Algo RING proto SIMPLE channel{{Lo..Hi}}={{0..23}}"
SLOTS = 4


class FakeContext:
    """The parts of a case's context that ``read_log`` uses, for one arm on rank 0 of two; it is also its log."""

    reason_absent: str | None = None

    def __init__(self, lines_of: Callable[[int, bool], list[str]], *, tuning: bool = False) -> None:
        self._lines_of = lines_of
        self._written: list[str] = []
        self._captures = self.is_on = False
        self.made = self.resets = 0
        self.log = self.arms = self.control = self.buffers = self.streams = self.ranks = self.own_set = self
        self.slots, self.world_size = SLOTS, 2
        self.config = self
        self.tuning = tuning

    def visit(self, names: Sequence[str], _phase: str) -> Iterator[str]:
        yield from names

    def __getitem__(self, name: str) -> FakeContext:
        assert name == NAME
        return self

    def present(self, names: Iterable[str]) -> list[str]:
        return [*names]

    def merge(self, findings: dict[str, Any]) -> dict[str, Any]:
        merged: dict[str, Any] = json.loads(json.dumps(findings))
        return merged

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


def found(context: FakeContext) -> dict[Timing, Logged]:
    logged = read_log(cast(CaseContext, context), [NAME], list(Timing))
    return {timing: logged[NAME, timing] for timing in Timing}


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
    assert {timing: str(logged.registered) for timing, logged in found(context).items()} == {
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
    context.tuning = True
    assert {*found(context).values()} == {Logged(registered=BuffersRegistered.UNKNOWN)}
    assert context.made == 0


def test_kernels_of_every_call_are_kept_once_and_only_if_they_were_asked_for() -> None:
    def lines_of(slot: int, captures: bool) -> list[str]:
        return [CALL, SYMMETRIC if captures and slot % 2 else RING]

    texts = {timing: logged.kernels and logged.kernels.text for timing, logged in found(FakeContext(lines_of)).items()}
    assert {*texts.values()} == {None}
    logged = found(FakeContext(lines_of, tuning=True))
    texts = {timing: of_timing.kernels and of_timing.kernels.text for timing, of_timing in logged.items()}
    ring = "RING/SIMPLE on 24 channels"
    in_graphs = f"{ring} and symmetric AllGather_ST on 8 channels"
    assert texts == {**dict.fromkeys(Timing, ring), Timing.GRAPH: in_graphs}


def test_a_call_without_a_line_about_its_kernel_has_no_named_kernel() -> None:
    logged = found(FakeContext(lambda _slot, _captures: [CALL], tuning=True))
    assert {of_timing.kernels for of_timing in logged.values()} == {Kernels(distinct=())}


@pytest.mark.parametrize(
    ("line", "registered", "kernels"),
    [("", "no", ""), (USES.removeprefix(INFO), "yes", ""), (RING.removeprefix(INFO), "no", "RING/SIMPLE")],
)
def test_samples_have_what_the_log_says(
    line: str,
    registered: str,
    kernels: str,
    one_rank: dist.ProcessGroup,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = build(tmp_path_factory.mktemp("log"), "-DLOG")
    FakeNccl(library).set_log_about_buffers(line)
    # torch.distributed runs over Gloo, which writes no log of NCCL.
    monkeypatch.setattr(NcclTransport, "backend", "gloo")
    options: dict[str, Any] = {"arms": "stream-free,torch", "sizes": "1K", "timings": "eager,gated", "rounds": 1}
    config = resolve("cuda", {**options, "max_rounds": 1, "ops_per_batch": 4, "dtypes": "float32", "tuning": True})
    log = NcclLog([str(library)])
    _, lines = run_on_one_rank(config, one_rank, nccl_device(library), Progress(None, 0, 0), log=log)
    logged = {(each.arm, each.registered, names_of(each)) for each in lines if isinstance(each, Samples)}
    assert logged == {
        *((name, BuffersRegistered(registered), kernels) for name in ("stream-free", "stream-free:twin")),
        ("torch", BuffersRegistered.UNKNOWN, None),
    }


def names_of(line: Samples) -> str | None:
    """Return the names of the kernels; an empty text if the log names none, ``None`` if it was not read."""
    return ", ".join(kernel.name for kernel in line.kernels.distinct) if line.kernels else None


def test_without_nccl_samples_say_nothing_about_buffers(one_rank: dist.ProcessGroup, fake: FakeNccl) -> None:
    config = resolve("cuda", {"arms": "stream-free", "sizes": "1K", "timings": "eager", "rounds": 1, "max_rounds": 1})
    _, lines = run_on_one_rank(config, one_rank, nccl_device(fake.path), Progress(None, 0, 0))
    assert [(line.registered, line.kernels) for line in lines if isinstance(line, Samples)] == [(None, None)]
