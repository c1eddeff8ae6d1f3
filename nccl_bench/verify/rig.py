"""What a probe works with: an arm, the streams to call it on, exchanges to try, and a note of every trial."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any

from nccl_bench.arms.arm import Arm
from nccl_bench.catalog.arms import ARMS
from nccl_bench.catalog.collectives import Placement, RedOp
from nccl_bench.catalog.devices import DeviceSpec
from nccl_bench.catalog.probes import Place
from nccl_bench.catalog.routes import ROUTES, Routes
from nccl_bench.catalog.support import unsupported
from nccl_bench.plan.verification import ArmProbe
from nccl_bench.ranks.control import Control
from nccl_bench.streams.base import Streams
from nccl_bench.transports.device import Device
from nccl_bench.verify.exchanges import EXCHANGES, OUTPLACE_ALL_REDUCE, Exchange, Participants
from nccl_bench.verify.findings import Finding


class Race(str):
    """What was wrong with a result that the same call, given all the time it wants, gets right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One exchange at one place.

    ``late`` says that this rank comes late, so that the others have to wait for it; ``in_graph_mode`` that a
    coordinator is called within its ``graph_capture()``, where it routes as in graphs, captured or not.
    """

    rig: Rig
    place: Place
    exchange: Exchange
    late: bool
    in_graph_mode: bool = False

    @property
    def streams(self) -> Streams:
        """The device's streams."""
        return self.rig.device.streams

    def start(self, salt: int) -> Exchange:
        """The exchange with its input written and its output poisoned, the device idle on every rank."""
        self.streams.synchronize()
        self.exchange.reset(salt)
        self.streams.synchronize()
        self.rig.control.barrier()
        return self.exchange

    def call(self) -> None:
        """The arm's own way of doing the exchange, for the stream that is current."""
        communicator: Any = self.rig.arm.communicator
        with communicator.graph_capture() if self.in_graph_mode else nullcontext():
            self.rig.arm.order(self.exchange.operation(communicator))()

    def call_elsewhere(self) -> None:
        """The same on another stream, and to its end: what it leaves behind is of no use to the next call."""
        _, _, other = self.rig.side_streams
        with self.streams.stream(other):
            self.call()
        self.streams.synchronize()

    def be_late(self) -> None:
        """Hold the host back on the late rank: nobody's collective can end before it has begun there."""
        if self.late:
            time.sleep(self.rig.delay_s)

    def slow_kernel(self) -> None:
        """Keep the current stream busy. A stream that runs inline is never behind its caller, so it needs none."""
        if not (self.rig.inline_default and self.place is Place.DEFAULT):
            self.streams.hold(self.rig.delay_s)


def first_of(seen: Iterable[str | None]) -> str | None:
    """The first of what was seen to be wrong in a trial, all of which every rank has to go through.

    A rank that left at the first sight of it would leave behind those that see nothing.
    """
    return next(filter(None, seen), None)


@dataclass(kw_only=True)
class Rig:
    """One cell's probe on one rank.

    ``shared_arm`` gives the arm that other probes use too, ``new_arm`` one that the probe has to close; making either
    is collective. ``at`` is told which trial is about to begin.
    """

    cell: ArmProbe
    device: Device
    device_spec: DeviceSpec
    control: Control
    shared_arm: Callable[[], Arm]
    new_arm: Callable[[], Arm]
    at: Callable[[str], None]
    routes: Routes = field(default_factory=lambda: ROUTES)
    outcomes: list[tuple[Place | None, str | None]] = field(default_factory=list)
    # Why the probe asks this arm nothing, where only the arm itself tells.
    inapplicable: str | None = None

    @cached_property
    def arm(self) -> Arm:
        """The arm, made when it is first asked for."""
        return self.shared_arm()

    @cached_property
    def side_streams(self) -> tuple[Any, Any, Any]:
        """Three streams of the caller's, none of them the arm's: outer, inner, and one more."""
        streams = self.device.streams
        # torch hands out its 32 streams in turn; the arm's own would order by accident what nothing may order.
        avoided = {streams.handle(stream) for stream in self.arm.private_streams()}
        chosen: dict[int, Any] = {}
        while len(chosen) < 3:
            stream = streams.new_stream()
            if streams.handle(stream) not in avoided:
                chosen[streams.handle(stream)] = stream
        outer, inner, other = chosen.values()
        return outer, inner, other

    @property
    def delay_s(self) -> float:
        """How long slow kernels are slow and late ranks late: long against anything that may hide a race."""
        return self.device_spec.probe_delay_s

    @property
    def inline_default(self) -> bool:
        """Whether the default stream runs inline."""
        return self.device_spec.inline_default_stream

    @property
    def has_graphs(self) -> bool:
        """Whether the device has CUDA graphs."""
        return self.device_spec.has_graphs

    @contextmanager
    def placed(self, place: Place) -> Iterator[None]:
        """Make ``place``'s stream current."""
        streams = self.device.streams
        outer, inner, _ = self.side_streams
        if place is Place.DEFAULT:
            with streams.stream(streams.default_stream()):
                yield
            return
        with streams.stream(outer):
            with streams.stream(inner):
                if place is Place.NESTED:
                    yield
                    return
            yield

    def exchanges(self, sizes: Sequence[int] | None = None, names: Sequence[str] = tuple(EXCHANGES)) -> list[Exchange]:
        """Those of ``names`` that the arm has, at each of ``sizes`` bytes; by default the device's small and large."""
        spec = ARMS.get(self.cell.arm)
        if spec is None:
            spec = self.arm.spec
            names = [name for name in names if self.arm.communicator.has_exchange(name)]
        out_of_place = unsupported(spec, self.device_spec, "all_reduce", "float32", RedOp.SUM, Placement.OUT_OF_PLACE)
        world = Participants(rank=self.control.rank, size=self.control.world_size, device=self.device.streams.device)
        return [
            EXCHANGES[name](world, size)
            for name, size in product(names, self.device_spec.probe_sizes if sizes is None else sizes)
            if not (name == OUTPLACE_ALL_REDUCE and out_of_place)
        ]

    def each(
        self, trial: Callable[[Trial], str | None], exchanges: Sequence[Exchange], *, both_modes: bool = False
    ) -> None:
        """Do ``trial`` for every exchange at every place; it returns what was wrong. ``both_modes``: a coordinator's
        in graph mode too."""
        if not exchanges:
            return
        sizes = len(self.device_spec.probe_sizes)
        # Where there are more ranks than turns, several share one; the others still wait for them.
        turns = min(self.control.world_size, len(exchanges) // sizes)
        modes = (False, True) if both_modes and self.arm.communicator.routed else (False,)
        for (where, place), mode, (number, exchange) in product(enumerate(Place), modes, enumerate(exchanges)):
            # Whatever the world size, each rank has its turn at every size and every place.
            turn = where + sum(divmod(number, sizes))
            late = turn % turns == self.control.rank % turns
            label = f"{place}, {exchange.name}{', within graph_capture()' if mode else ''}"
            self.at(label)
            with self.placed(place):
                wrong = trial(Trial(rig=self, place=place, exchange=exchange, late=late, in_graph_mode=mode))
                self.note(label, wrong, place)

    def note(self, label: str, wrong: str | None, place: Place | None = None) -> None:
        """Note the outcome of a trial on this rank."""
        told = None if wrong is None else type(wrong)(f"{label}, rank {self.control.rank}: {wrong}")
        self.outcomes.append((place, told))

    def finding(self) -> Finding:
        """What all ranks found together. Collective."""
        failures = [failure for _, failure in self.outcomes]
        count = len(failures)
        marks = [failure is not None for failure in failures] + [isinstance(failure, Race) for failure in failures]
        ranks = self.control.sum([int(mark) for mark in marks])
        failed, raced = ranks[:count], ranks[count:]
        first = next((index for index, number in enumerate(failed) if number), None)
        told = None if first is None else self.control.first_message(failures[first])
        loud = {place for (place, _), number in zip(self.outcomes, raced, strict=True) if number}
        return Finding(
            arm=self.cell.arm,
            probe=self.cell.probe,
            trials=count,
            failed=sum(1 for number in failed if number),
            raced=sum(1 for number in raced if number),
            quiet=tuple(place for place in Place if place not in loud),
            detail=self.inapplicable if told is None else str(told[1]),
        )
