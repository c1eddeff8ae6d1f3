"""The table of reasons for which a GPU runs below its highest clock, as NVIDIA's driver reports them.

Source: the page "NvmlClocksEventReasons" of NVIDIA's NVML reference, and nvml.h. An idle GPU is not in the table: its
clock says nothing about a measurement.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class ThrottleReason(StrEnum):
    """The reasons that limit the clocks of a GPU."""

    POWER_CAP = "power cap"
    HARDWARE_SLOWDOWN = "hardware slowdown"
    SYNC_BOOST = "sync boost"
    SOFTWARE_THERMAL = "software thermal slowdown"
    HARDWARE_THERMAL = "hardware thermal slowdown"
    POWER_BRAKE = "power brake"
    APPLICATION_CLOCKS = "application clocks"
    DISPLAY_CLOCKS = "display clocks"


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottleSpec:
    """A row of the table of reasons."""

    bit: int  # the bit in the mask of nvmlDeviceGetCurrentClocksEventReasons
    counter: int | None = None  # the NVML field that counts the nanoseconds of this reason; None if there is none
    remedy: str  # what the user can do; empty if the user chose this clock, which is no reason to warn


_COOL = "Cool the GPU: check its fans and the temperature of the room"

THROTTLE_REASONS: Mapping[ThrottleReason, ThrottleSpec] = {
    ThrottleReason.POWER_CAP: ThrottleSpec(
        bit=0x4, counter=74, remedy="Compare only with runs at the same power limit, or raise it (nvidia-smi -pl WATTS)"
    ),
    # The cause is heat, the power supply or a peak of the power.
    ThrottleReason.HARDWARE_SLOWDOWN: ThrottleSpec(
        bit=0x8, remedy="Find the cause with nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER"
    ),
    ThrottleReason.SYNC_BOOST: ThrottleSpec(
        bit=0x10, counter=76, remedy="Another GPU of the sync boost group is slow: find its reason, or leave the group"
    ),
    ThrottleReason.SOFTWARE_THERMAL: ThrottleSpec(bit=0x20, counter=269, remedy=_COOL),
    ThrottleReason.HARDWARE_THERMAL: ThrottleSpec(bit=0x40, counter=270, remedy=_COOL),
    ThrottleReason.POWER_BRAKE: ThrottleSpec(bit=0x80, counter=271, remedy="Check the power supply of the machine"),
    ThrottleReason.APPLICATION_CLOCKS: ThrottleSpec(bit=0x2, remedy=""),
    ThrottleReason.DISPLAY_CLOCKS: ThrottleSpec(bit=0x100, remedy=""),
}
