"""The state of the GPUs: MIG, ECC, memory errors, clocks, power and persistence."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from nccl_bench.catalog.throttling import THROTTLE_REASONS, ThrottleReason
from nccl_bench.doctor.diagnosis import Diagnosis, changes, fine, stops
from nccl_bench.doctor.gpus import numbers_text
from nccl_bench.doctor.machine import Machine
from nccl_bench.records.nvml import SM_CLOCK

_UNCORRECTED, _SINCE_START = 1, 0  # NVML_MEMORY_ERROR_TYPE_UNCORRECTED and NVML_VOLATILE_ECC in nvml.h


def examine_mig(machine: Machine) -> Iterator[Diagnosis]:
    """Yield whether GPUs are split into MIG devices."""
    modes = _answers(machine, "nvmlDeviceGetMigMode")
    split = [number for number, (current, _) in modes.items() if current]
    pending = [number for number, (current, later) in modes.items() if current != later]
    if split:
        yield stops(
            f"{numbers_text(split)}: MIG is on",
            "NCCL does not communicate between MIG devices, so a run of several ranks fails. --nproc 1 works.",
            f"sudo nvidia-smi -i {_joined(split)} -mig 0",
        )
    if pending:
        yield changes(
            f"{numbers_text(pending)}: MIG will be switched at the next reset",
            "Later runs have other devices than runs of today.",
            f"sudo nvidia-smi --gpu-reset -i {_joined(pending)}",
        )
    if modes and not split:
        yield fine("MIG is off")


def examine_ecc(machine: Machine) -> Iterator[Diagnosis]:
    """Yield the ECC mode of the GPUs, and errors of their memory."""
    modes = _answers(machine, "nvmlDeviceGetEccMode")
    states = {bool(current) for current, _ in modes.values()}
    if len(states) == 1:
        yield fine(f"ECC is {'on' if states == {True} else 'off'}")
    elif states:
        off = [number for number, (current, _) in modes.items() if not current]
        yield changes(
            f"{numbers_text(off)}: ECC is off, and on for the others",
            "Memory with ECC is slower, and the slowest GPU decides the time of a collective.",
            f"sudo nvidia-smi -i {_joined(off)} -e 1   # then restart",
        )
    pending = [number for number, (current, later) in modes.items() if current != later]
    if pending:
        yield changes(
            f"{numbers_text(pending)}: ECC will be switched at the next restart",
            "Runs before and after the restart are not comparable.",
            f"sudo nvidia-smi --gpu-reset -i {_joined(pending)}",
        )
    errors = _answers(machine, "nvmlDeviceGetTotalEccErrors", _UNCORRECTED, _SINCE_START)
    damaged = [number for number, count in errors.items() if count]
    if damaged:
        yield changes(
            f"{numbers_text(damaged)}: memory errors that ECC could not correct since the driver started",
            "A process that meets such an error is ended by the driver.",
            f"nvidia-smi -q -d ECC -i {_joined(damaged)}   # then reset or replace the GPU",
        )
    rows = _answers(machine, "nvmlDeviceGetRemappedRows")
    for number, (_, _, reset_needed, failed) in rows.items():
        if failed or reset_needed:
            yield changes(
                f"GPU {number}: "
                + (
                    "a row of the memory could not be replaced"
                    if failed
                    else "a row of the memory waits for its replacement"
                ),
                "Memory errors will end processes. The GPU needs " + ("a repair." if failed else "a reset."),
                f"nvidia-smi -q -d ROW_REMAPPER -i {number}",
            )


def examine_clocks(machine: Machine) -> Iterator[Diagnosis]:
    """Yield what limits the clocks of the GPUs, and whether their driver stays loaded."""
    by_reason: dict[ThrottleReason, list[int]] = defaultdict(list)
    for number, mask in _answers(machine, "nvmlDeviceGetCurrentClocksEventReasons").items():
        for reason, spec in THROTTLE_REASONS.items():
            if mask & spec.bit:
                by_reason[reason].append(number)
    for reason, numbers in by_reason.items():
        remedy = THROTTLE_REASONS[reason].remedy
        if remedy:
            yield changes(
                f"{numbers_text(numbers)}: the clocks are lowered at this moment ({reason})",
                f"Figures are those of a slower GPU. {remedy}.",
                "nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER",
            )
        else:
            yield fine(f"{numbers_text(numbers)}: somebody has set the clocks ({reason}), which makes figures steady")
    yield from _highest_clocks(machine)
    yield from _power(machine)
    persistence = _answers(machine, "nvmlDeviceGetPersistenceMode")
    off = [number for number, on in persistence.items() if not on]
    if off:
        yield changes(
            f"{numbers_text(off)}: persistence mode is off",
            "Without a process on a GPU the driver unloads. The start of each run is then seconds slower, and locked "
            "clocks are lost.",
            "sudo nvidia-smi -pm 1",
        )
    elif persistence:
        yield fine("persistence mode is on")


def _highest_clocks(machine: Machine) -> Iterator[Diagnosis]:
    highest = _answers(machine, "nvmlDeviceGetMaxClockInfo", SM_CLOCK)
    if len(set(highest.values())) == 1:
        temperatures = _answers(machine, "nvmlDeviceGetTemperature", 0)
        hottest = f", {max(temperatures.values())} degrees Celsius at most now" if temperatures else ""
        yield fine(f"the highest SM clock is {next(iter(highest.values()))} MHz{hottest}")
    elif highest:
        yield changes(
            "the highest SM clocks differ: " + ", ".join(f"GPU {number} {mhz} MHz" for number, mhz in highest.items()),
            "The slowest GPU decides the time of every collective.",
            "nvidia-smi -q -d CLOCK",
        )


def _power(machine: Machine) -> Iterator[Diagnosis]:
    limits = _answers(machine, "nvmlDeviceGetPowerManagementLimit")
    defaults = _answers(machine, "nvmlDeviceGetPowerManagementDefaultLimit")
    lowered = [number for number, limit in limits.items() if limit < defaults.get(number, limit)]
    if lowered:
        first = lowered[0]
        yield changes(
            f"{numbers_text(lowered)}: the power limit is {limits[first] / 1000:.0f} W; the default is "
            f"{defaults[first] / 1000:.0f} W",
            "Under load the clocks are lower. Compare only with runs at the same power limit.",
            f"sudo nvidia-smi -i {_joined(lowered)} -pl {defaults[first] / 1000:.0f}",
        )


def _answers(machine: Machine, function: str, *arguments: int) -> dict[int, Any]:
    """Return the answer of each GPU that has one, by the number of the GPU."""
    answers = {number: machine.nvml.ask(function, gpu, *arguments) for number, gpu in enumerate(machine.gpus)}
    return {number: answer for number, answer in answers.items() if answer is not None}


def _joined(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))
