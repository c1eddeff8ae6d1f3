"""The watch over the GPUs: what their sensors say before and after each timing, merged over the ranks."""

import math
import os

from nccl_bench.catalog.throttling import THROTTLE_REASONS
from nccl_bench.ranks.joining import Ranks
from nccl_bench.ranks.own_processes import OwnProcesses
from nccl_bench.records.schema import GpuState
from nccl_bench.streams.sensors import GpuSensors, Reading

# One number holds a rank and a process id, which has at most 22 bits (proc(5), `pid_max`).
_PROCESS_BITS = 22
_UNKNOWN = -math.inf


class Watch:
    """Reads the ``sensors`` of this rank's device, outside the timed regions. Construction is collective."""

    def __init__(self, sensors: GpuSensors | None, ranks: Ranks) -> None:
        self._control, self._rank = ranks.all_ranks, ranks.own_set.rank
        # Process sets share the GPUs, so one set reads all sensors: the first set that can.
        sets = len(ranks.first_ranks)
        reading_set = self._control.minimum(sets if sensors is None else ranks.set_index)
        self._sensors = sensors if ranks.set_index == reading_set else None
        self._active = reading_set < sets
        self._own = OwnProcesses(self._control.each_value(os.getpid()) if self._active else ())
        self._before: Reading | None = None

    def begin(self) -> None:
        """Read the sensors, and wait until all ranks have done so. Collective."""
        if self._active:
            self._before = self._sensors.read() if self._sensors else None
            self._control.barrier()

    def end(self) -> GpuState | None:
        """Return the state of the GPUs since ``begin``; ``None`` if no rank has sensors. Collective.

        The ranks exchange only maxima, so the cost does not grow with the number of ranks.
        """
        if not self._active:
            return None
        values = [_UNKNOWN] * (6 + 2 * len(THROTTLE_REASONS))
        if self._sensors and self._before:
            values = self._values(self._before, self._sensors.read())
        merged = [None if value == _UNKNOWN else value for value in self._control.maximum(values)]
        sm_clock, memory_clock, temperature, power_w, throttled_rank, other = merged[:6]
        limited, shares = merged[6::2], merged[7::2]
        return GpuState(
            sm_clock_mhz=None if sm_clock is None else -int(sm_clock),
            memory_clock_mhz=None if memory_clock is None else -int(memory_clock),
            temperature_c=None if temperature is None else int(temperature),
            power_w=power_w,
            throttle_reasons=tuple(reason for reason, value in zip(THROTTLE_REASONS, limited, strict=True) if value),
            throttled_share=max((share for share in shares if share is not None), default=None),
            throttled_rank=None if throttled_rank is None else -int(throttled_rank),
            other_process=None if other is None else -int(other) % 2**_PROCESS_BITS,
            other_process_rank=None if other is None else -int(other) >> _PROCESS_BITS,
        )

    def _values(self, before: Reading, after: Reading) -> list[float]:
        """Return this rank's part of a state. The maximum over ranks of each value is the value for all ranks."""
        throttled = after.throttled_since(before)
        lowered = any(THROTTLE_REASONS[reason].remedy for reason in throttled)
        other = self._own.first_other({*before.processes, *after.processes})
        return [
            _UNKNOWN if after.sm_clock_mhz is None else -after.sm_clock_mhz,
            _UNKNOWN if after.memory_clock_mhz is None else -after.memory_clock_mhz,
            _UNKNOWN if after.temperature_c is None else after.temperature_c,
            _UNKNOWN if after.power_w is None else after.power_w,
            -self._rank if lowered else _UNKNOWN,
            _UNKNOWN if other is None else -(self._rank << _PROCESS_BITS | other),
            *(
                value
                for reason in THROTTLE_REASONS
                for value in (1.0 if reason in throttled else _UNKNOWN, throttled.get(reason) or _UNKNOWN)
            ),
        ]
