"""The tools of a probe: the arm, the streams to call it on, the exchanges to try, and a record of every trial."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Any

from torch import Tensor

from nccl_bench.arms.arm import Arm
from nccl_bench.catalog.arms import ARMS
from nccl_bench.catalog.collectives import Placement, RedOp
from nccl_bench.catalog.devices import DeviceSpec
from nccl_bench.catalog.probes import Place
from nccl_bench.catalog.routes import ROUTES, Routes
from nccl_bench.catalog.support import unsupported
from nccl_bench.communicators.protocol import RETURNING_PREFIX
from nccl_bench.plan.verification import ArmProbe
from nccl_bench.ranks.control import Control
from nccl_bench.streams.base import Streams
from nccl_bench.transports.device import Device
from nccl_bench.verify.exchanges import EXCHANGES, OUTPLACE_ALL_REDUCE, Exchange, Participants
from nccl_bench.verify.findings import Finding
from nccl_bench.verify.first_call import accepts
from nccl_bench.verify.outcomes import Outcome, join_outcomes

# A delay is at least this many times as long as a call that nothing delays. On a busy machine the ranks need longer for
# their calls and for the work that could race.
_CALLS_OF_DELAY = 4
_LONGEST_DELAY_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """An attempt of a probe: one exchange at one place."""

    rig: Rig  # the tools of the probe
    place: Place  # the place whose stream is current
    exchange: Exchange  # the collective to try
    is_late: bool  # True if this rank starts late, so that the other ranks wait for this rank
    # True if the call is made inside graph_capture(), where a coordinator uses its routes for graphs.
    in_graph_mode: bool = False

    @property
    def streams(self) -> Streams:
        """The device's streams."""
        return self.rig.device.streams

    def start(self, salt: int) -> Exchange:
        """Write the input, poison the output, wait until the devices of all ranks are idle, and return the exchange."""
        self.streams.synchronize()
        self.exchange.reset(salt)
        self.streams.synchronize()
        self.rig.control.barrier()
        return self.exchange

    def call(self) -> None:
        """Run the exchange. The arm orders the exchange with the current stream."""
        with self.rig.arm.communicator.graph_capture() if self.in_graph_mode else nullcontext():
            call_each(self.rig.arm, [self.exchange])

    def call_on_other_stream(self) -> None:
        """Run the exchange on another stream and wait. A call on the current stream could order the next call."""
        _, _, other = self.rig.side_streams
        begin = time.monotonic()
        with self.streams.stream(other):
            self.call()
        self.streams.synchronize()
        self.rig.call_s = time.monotonic() - begin

    def delay_if_late(self) -> None:
        """Delay the host on the late rank. The collective cannot end on any rank before it begins on the late rank."""
        if self.is_late:
            time.sleep(self.rig.delay_s)

    def find_error(self, result: Tensor, salt: int) -> str | None:
        """Return a message about the wrong elements of ``result``, or ``None``. Count the call as checked."""
        self.rig.checked += 1
        return self.exchange.find_error(result, salt)

    def run_slow_kernel(self) -> None:
        """Keep the current stream busy. A stream that runs all work inside the calls cannot race: do nothing there."""
        if not (self.rig.device_spec.inline_default_stream and self.place is Place.DEFAULT):
            self.streams.hold(self.rig.delay_s)


def first_error(errors: Iterable[str | None]) -> str | None:
    """Return the first error of a trial, or ``None``.

    A trial continues after an error, because other ranks wait for this rank. The trial reports its error at the end.
    """
    return next(filter(None, errors), None)


def call_each(arm: Arm, exchanges: Sequence[Exchange]) -> None:
    """Run each exchange. ``arm`` orders each exchange with the current stream."""
    for exchange in exchanges:
        call(arm, exchange)


def call(arm: Arm, exchange: Exchange, input: Tensor | None = None) -> None:
    """Run ``exchange``, with ``input`` if given, and receive what it returns, in the order of the current stream."""
    arm.order(exchange.operation(arm.communicator, input))()
    exchange.receive(arm.streams)


@dataclass(kw_only=True)
class Rig:
    """The tools of one probe of one arm on one rank."""

    arm_probe: ArmProbe  # the arm and the probe
    device: Device  # this rank's device
    device_spec: DeviceSpec  # the device's row in the catalog
    control: Control  # collectives between the ranks on the host
    get_shared_arm: Callable[[], Arm]  # the function that returns the shared arm; its first call is collective
    make_arm: Callable[[], Arm]  # the function that makes an arm, which the probe must close; collective
    announce_trial: Callable[[str], None]  # the function to call with a trial's label before the trial
    routes: Routes = field(default_factory=lambda: ROUTES)  # the coordinator's routing table
    outcomes: list[Outcome] = field(default_factory=list)  # the outcome of every trial so far
    checked: int = 0  # the number of calls so far whose results were checked
    watched_calls: int = 0  # the number of calls so far whose order was decided by construction
    unforked_calls: int = 0  # watched calls that lack a fork
    unjoined_calls: int = 0  # watched calls that lack a join
    call_s: float = 0.0  # the seconds of the last call that nothing delayed, until its result was complete
    # The reason why the probe does not apply to the arm, if the probe finds such a reason; otherwise None.
    reason_not_applicable: str | None = None
    declined: list[str] = field(default_factory=list)  # the exchanges that a user arm declined, each with the reason
    # (name, size) of an exchange -> whether the user arm takes it.
    _taken: dict[tuple[str, int], bool] = field(default_factory=dict)

    @cached_property
    def arm(self) -> Arm:
        """The shared arm, made on first use."""
        return self.get_shared_arm()

    @cached_property
    def side_streams(self) -> tuple[Any, Any, Any]:
        """The outer, the inner and a third side stream of the caller. The arm uses none of the three streams."""
        streams = self.device.streams
        # torch gives out its 32 streams again and again. A side stream that the arm also uses would order calls.
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
        """The duration in seconds of a slow kernel and of a late rank's delay: long enough to make a race visible."""
        return max(self.device_spec.probe_delay_s, min(_CALLS_OF_DELAY * self.call_s, _LONGEST_DELAY_S))

    @contextmanager
    def at_place(self, place: Place) -> Iterator[None]:
        """Make the stream of ``place`` current within the ``with`` block."""
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
        """Return an exchange of every size in ``sizes`` (bytes) for each of ``names`` that the arm supports.

        By default, ``sizes`` are the small and the large size in the device's row of the catalog.
        """
        spec = ARMS.get(self.arm_probe.arm)
        if spec is None:
            spec = self.arm.spec
            names = [name for name in names if self.arm.communicator.has_exchange(name)]
        else:
            # Do not probe a built-in arm with returned outputs, because it has another placement.
            names = [name for name in names if not name.startswith(RETURNING_PREFIX)]
        out_of_place = unsupported(spec, self.device_spec, "all_reduce", "float32", RedOp.SUM, Placement.OUT_OF_PLACE)
        ranks = Participants(
            rank=self.control.rank, world_size=self.control.world_size, device=self.device.streams.device
        )
        made = {
            (name, size): EXCHANGES[name](ranks, size)
            for name, size in product(names, self.device_spec.probe_sizes if sizes is None else sizes)
            if not (name == OUTPLACE_ALL_REDUCE and out_of_place)
        }
        if self.arm_probe.arm not in ARMS:
            for key, exchange in made.items():
                if key not in self._taken:
                    self._taken[key] = accepts(self, exchange)
            made = {key: exchange for key, exchange in made.items() if self._taken[key]}
        return list(made.values())

    def try_each(
        self, run_trial: Callable[[Trial], str | None], exchanges: Sequence[Exchange], *, both_modes: bool = False
    ) -> None:
        """Run a trial for every exchange at every place, and record the error that each trial returns.

        With ``both_modes``, a coordinator is also tried in graph mode.
        """
        if not exchanges:
            return
        sizes = len(self.device_spec.probe_sizes)
        # With more ranks than turns, several ranks are late in one turn. The other ranks still wait for the late ranks.
        turns = max(1, min(self.control.world_size, len(exchanges) // sizes))
        modes = (False, True) if both_modes and self.arm.communicator.has_routes else (False,)
        for (offset, place), mode, (number, exchange) in product(enumerate(Place), modes, enumerate(exchanges)):
            # For every world size, each rank is late at least once at every size and every place.
            turn = offset + sum(divmod(number, sizes))
            is_late = turn % turns == self.control.rank % turns
            label = f"{place}, {exchange.name}{', within graph_capture()' if mode else ''}"
            self.announce_trial(label)
            with self.at_place(place):
                trial = Trial(rig=self, place=place, exchange=exchange, is_late=is_late, in_graph_mode=mode)
                self.record(label, run_trial(trial), place, exchange, in_graph_mode=mode)

    def record(
        self,
        label: str,
        error: str | None,
        place: Place | None = None,
        exchange: Exchange | None = None,
        *,
        in_graph_mode: bool = False,
    ) -> None:
        """Record the outcome of a trial on this rank. The trial checked all calls since the trial before it."""
        described = None if error is None else type(error)(f"{label}, rank {self.control.rank}: {error}")
        calls = self.checked - sum(outcome.calls for outcome in self.outcomes)
        self.outcomes.append(
            Outcome(error=described, place=place, exchange=exchange, in_graph_mode=in_graph_mode, calls=calls)
        )

    def make_finding(self) -> Finding:
        """Return one finding for all ranks together. Collective."""
        if self.declined and not self.outcomes:
            self.reason_not_applicable = f"the arm declined all that the probe tries: {'; '.join(self.declined)}"
        finding = join_outcomes(self.arm_probe, self.outcomes, self.control)
        finding = replace(finding, detail=finding.detail or self.reason_not_applicable, declined=tuple(self.declined))
        if not self.watched_calls:
            return finding
        watched, unforked, unjoined = self.control.sum([self.watched_calls, self.unforked_calls, self.unjoined_calls])
        return replace(finding, watched_calls=watched, unforked_calls=unforked, unjoined_calls=unjoined)
