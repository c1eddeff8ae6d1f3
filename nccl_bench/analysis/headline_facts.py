"""The facts of the headline: results, stream order, machine, command, and what to do next."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nccl_bench.analysis.bands import Band, OpenReason
from nccl_bench.analysis.comparison import Basis
from nccl_bench.analysis.headline import Fact
from nccl_bench.analysis.machine import NamedRuns, settings_text
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.analysis.summary import Row
from nccl_bench.analysis.wording import counted
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.config.user_arms import AFTER, BEFORE, arm_text
from nccl_bench.records.run import TOOL, Run
from nccl_bench.records.schema import Status

# Five launches decide most differences of 5 %. See the page `verdicts` of the guide.
_LAUNCHES = 5


def results_text(rows: Sequence[Row]) -> str:
    """Return how many cells were right, wrong, not checked and declined; a cell is a case, an arm and a timing."""
    cells = [row for row in rows if row.timing]
    wrong = [row for row in cells if row.status == Status.WRONG]
    unchecked = sum(row.wrong is None for row in cells if row.status == Status.OK)
    right = sum(row.status == Status.OK for row in cells) - unchecked
    declined = sum(row.status == Status.DECLINED for row in cells)
    parts = []
    if wrong:
        arms = ", ".join(dict.fromkeys(str(row.arm) for row in wrong))
        parts.append(f"WRONG in {counted(len(wrong), 'cell')} of {arms}")
    if right:
        parts.append(f"right in {'all ' if right == len(cells) > 1 else ''}{counted(right, 'cell')}, on every rank")
    if unchecked:
        parts.append(f"not checked in {counted(unchecked, 'cell')}")
    if declined:
        parts.append(f"declined in {counted(declined, 'cell')}")
    return ", ".join(parts) or "none"


def machine_text(metas: NamedRuns) -> str:
    """Return devices, versions and settings; if the runs differ, those of each run with its name."""
    texts: dict[str, list[str]] = {}
    for name, meta in metas:
        texts.setdefault(_machine(meta), []).append(name)
    if len(texts) == 1:
        return next(iter(texts))
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in texts.items())


def device_text(meta: Mapping[str, Any]) -> str:
    """Return the number of ranks and the device: 2x H200, 2 ranks on cpu."""
    device, ranks = str(meta["config"].get("device")), int(meta["launch"].get("world_size") or 0)
    gpus = (meta.get("environment") or {}).get("gpus") or []
    if device in DEVICES and DEVICES[device].has_gpus and gpus and gpus[0].get("name"):
        name = str(gpus[0]["name"]).removeprefix("NVIDIA ")
        # Ranks can share a GPU.
        return f"{ranks}x {name}" if ranks <= len(gpus) else f"{counted(ranks, 'rank')} on {len(gpus)}x {name}"
    return f"{counted(ranks, 'rank')} on {device}"


def _machine(meta: Mapping[str, Any]) -> str:
    environment, worker = meta.get("environment") or {}, meta.get("worker") or {}
    drivers = dict.fromkeys(str(gpu["driver"]) for gpu in environment.get("gpus") or [] if gpu.get("driver"))
    transport = worker.get("transport") or {}
    library = "NCCL" if (transport.get("name") or "nccl").startswith("nccl") else transport["name"]
    parts = [
        device_text(meta),
        f"torch {str(worker['torch']).partition('+')[0]}" if worker.get("torch") else "",
        f"{library} {transport['version']}" if transport.get("version") and library == "NCCL" else "",
        f"driver {', '.join(drivers)}" if drivers else "",
        settings_text(meta),
    ]
    return ", ".join(filter(None, parts))


def command_fact(metas: NamedRuns) -> Fact | None:
    """Return the commands that made the runs; ``None`` if none is recorded."""
    commands: dict[str, list[str]] = {}
    for name, meta in metas:
        if isinstance(meta.get("command"), list):
            commands.setdefault(shlex.join(map(str, meta["command"])), []).append(name)
    if not commands:
        return None
    text = next(iter(commands))
    if len(metas) > 1:
        text = "; ".join(f"{', '.join(names)}: {command}" for command, names in commands.items())
    return Fact(name="Command", text=text, commands=tuple(commands))


def order_fact(run: Run) -> Fact | None:
    """Return that a run does not look at stream order, with the command that does; ``None`` for an import."""
    if run.is_import:
        return None
    command = verify_command(run)
    return Fact(name="Order", text=f"not looked at here: {command}", commands=(command,))


def verify_command(run: Run) -> str:
    """Return the command that verifies the stream order of the arms of ``run``, with the same trees and options."""
    config = run.meta["config"]
    user_arms = {str(arm.get("name")): arm for arm in config.get("user_arms") or ()}
    parts = [TOOL, "verify"]
    before, after = user_arms.get(BEFORE), user_arms.get(AFTER)
    keys = ({**before, "name": "", "tree": ""}, {**after, "name": "", "tree": ""}) if before and after else ((), ())
    if before and after and keys[0] == keys[1] and before.get("tree") and after.get("tree"):
        parts += ["--before-tree", before["tree"], "--after-tree", after["tree"]]
        parts += ["--arm", arm_text({**before, "name": None, "tree": None})]
        user_arms = {name: arm for name, arm in user_arms.items() if name not in (BEFORE, AFTER)}
    parts += [part for arm in user_arms.values() for part in ("--arm", arm_text(arm))]
    # Without user arms, verify tries every arm. With user arms, it tries only them, unless --arms names more.
    asked = [arm for arm in (run.baseline, *run.asked_arms) if arm not in run.targets]
    if asked:
        parts += ["--arms", ",".join(asked)]
    if config.get("routes"):
        parts += ["--routes", ",".join(config["routes"])]
    if config.get("nccl_library"):
        parts += ["--nccl-library", config["nccl_library"]]
    if DEVICES.get(run.device) and not DEVICES[run.device].has_gpus:
        parts += ["--device", run.device]
    parts += ["--nproc", str(run.meta["launch"].get("nproc") or run.world_size)]
    variables = [f"{name}={value}" for name, value in (config.get("variables") or {}).items()]
    return shlex.join([*(["env", *variables] if variables else []), *map(str, parts)])


def next_fact(bands: Sequence[Band], basis: Basis, run: Run | None) -> Fact | None:
    """Return what to do next: the rest of an incomplete run, or what settles the open bands."""
    if run is not None and run.resume_command:
        command = run.resume_command
        return Fact(name="Next", text=f"measure the rest of this run: {command}", commands=(command,))
    advice = list(_advice(bands, basis))
    if not advice:
        return Fact(name="Next", text="nothing is open") if bands and all(band.verdict for band in bands) else None
    reasons = {band.reason for band in bands if band.verdict is Verdict.INCONCLUSIVE}
    options, text = advice[0]
    # If everything that is open has one reason, one option settles it.
    text = f"{options} {text}" if len(reasons) == 1 else f"{options} settles most of what is open"
    command = _command_with(run, options) if run is not None else None
    return Fact(name="Next", text=f"{text}: {command}" if command else text, commands=(command,) if command else ())


def _advice(bands: Sequence[Band], basis: Basis) -> Iterator[tuple[str, str]]:
    """Yield options, and what they settle, for the reasons why bands are open; the most useful option is first."""
    still_open = [band for band in bands if band.verdict is Verdict.INCONCLUSIVE]
    of_reason = {reason: [band for band in still_open if band.reason is reason] for reason in OpenReason}
    launches = {
        Basis.ROUNDS: f"--launches {_LAUNCHES}",
        Basis.LAUNCHES: f"--launches {2 * _LAUNCHES}",
        Basis.SHARED_ARM: f"--launches {_LAUNCHES} on each side",
        Basis.RUNS: "more runs on each side",
    }.get(basis, f"--launches {_LAUNCHES}")
    if of_reason[OpenReason.TOO_FEW_ROUNDS]:
        needed = [each.pairs_needed or 0 for band in of_reason[OpenReason.TOO_FEW_ROUNDS] for each in band.comparisons]
        # With exactly the needed rounds, an interval spans from the smallest ratio to the largest.
        yield f"--rounds {max(2 * max(needed), 15)}", "gives enough rounds for intervals"
    if of_reason[OpenReason.WITHIN_NOISE]:
        yield launches, "settles what is open, because new communicators average out the noise"
    if of_reason[OpenReason.BELOW_THRESHOLD]:
        yield launches, "settles what is open, unless a difference is right at the threshold"


def _command_with(run: Run, options: str) -> str | None:
    """Return the command of ``run`` with other ``options``, and without the directory of its record."""
    command = run.meta.get("command")
    if not isinstance(command, list) or command[1:2] != ["run"] or run.is_import or "--resume" in command:
        return None
    name, value = options.split()
    left_out = {"--out", name}
    kept: list[str] = []
    words = iter(map(str, command))
    for word in words:
        if word in left_out:
            next(words, None)
        elif word.partition("=")[0] not in left_out:
            kept.append(word)
    return shlex.join([*kept, name, value])
