"""The title of a run and the notes above its tables."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from nccl_bench.analysis.libraries import notes_on_arms
from nccl_bench.analysis.machine import library_text, over_ranks_of
from nccl_bench.analysis.registration import registration_notes
from nccl_bench.analysis.wording import counted
from nccl_bench.catalog.arms import ARMS, TWIN_SUFFIX
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.config.question import default_baseline
from nccl_bench.records.importers import READERS
from nccl_bench.records.run import PROFILES, Run


def title(run: Run) -> str:
    """Return the title of ``run``: name, ranks, device, NCCL, start, cases, and the status of an incomplete run."""
    gpus = run.meta["environment"].get("gpus") or [{}]
    device = gpus[0].get("name", run.device) if run.device in DEVICES and DEVICES[run.device].has_gpus else run.device
    status = status_text(run)
    # The status is at the start, so that the first line of a narrow report has it.
    name = run.meta["name"] if status == "complete" else f"{run.meta['name']}, {status.upper()}"
    library = library_text(run.meta.get("worker") or {}, by_binding=not run.is_import)
    text = f"{name}: {counted(run.world_size, 'rank')} on {device}"
    return ", ".join(filter(None, (text, library, run.meta["started"], progress_text(run))))


def progress_text(run: Run) -> str:
    """Return how many of the planned cases were measured; empty if the plan is unknown."""
    if run.cases is None:
        return ""
    text = f"{len(run.ended) - run.skipped} of {counted(run.cases * run.launches, 'case')}"
    text += f" in {run.launches} launches" if run.launches > 1 else ""
    return text + (f" ({run.skipped} skipped)" if run.skipped else "")


def status_text(run: Run) -> str:
    """Return the status of ``run``. If the record has no end of the run, the command may have been killed."""
    status = str(run.meta["status"])
    if status != "running":
        return status
    return {True: "still running", False: "killed", None: "still running or killed"}[run.is_written]


def notes(run: Run) -> Iterator[str]:
    """Yield the meaning of the times, then facts about the arms and the device."""
    yield times_note(run)
    if run.launches > 1:
        yield (
            f"{run.launches} launches, each with new processes and new communicators. The ratio of a cell is the "
            "geometric mean of the launches' ratios, and its interval contains communicator variance."
        )
    default = default_baseline(run.arms, run.targets)
    if run.baseline != run.recorded_baseline:
        yield (
            f"The baseline is {run.baseline}, because {default.reason}. The run was measured with the baseline "
            f"{run.recorded_baseline}. Its rounds have times of all arms, so the ratios need no other run. The noise "
            f"floor is that of {run.recorded_baseline}, which alone has a twin."
        )
    elif default.reason and default.arm == run.baseline:
        yield f"The baseline is {default.arm}, because {default.reason}. --baseline chooses another arm."
    if run.resumes:
        yield (
            f"The run was continued {counted(len(run.resumes), 'time')}, last at {run.resumes[-1].started}. The arms "
            "of one case were always measured together, but cases can have different communicators."
        )
    if reason := (run.meta.get("worker") or {}).get("binding_reason"):
        yield f"The arms of this tool call NCCL by ctypes, whose calls cost more than those of nccl4py: {reason}"
    for arm in recorded_user_arms(run):
        yield f"{arm.get('arm')}: {arm.get('where')}, order {arm.get('order')}; {arm.get('described')}"
    for arm in run.meta["config"].get("user_arms") or ():
        if arm.get("target") in ARMS:
            over = f" over {arm['transport']}" if arm.get("transport") else ""
            own = {**(arm.get("variables") or {}), **({"library": arm["library"]} if arm.get("library") else {})}
            changes = ", ".join(f"{name}={value}" for name, value in own.items())
            yield f"{arm.get('name')}: {arm['target']}{over}{f' with {changes}' if changes else ''}"
    yield from notes_on_arms(run.meta, [arm for arm in run.arms if arm != run.baseline], run.baseline)
    first, *process_sets = (run.meta.get("worker") or {}).get("process_sets") or ({},)
    yield from _interpreters(run, {name for each in process_sets for name in each.get("arms") or ()})
    for process_set in process_sets:
        names = process_set.get("arms") or ()
        # The twin alone has processes of its own if there are several process sets.
        arms = [name for name in names if not str(name).endswith(TWIN_SUFFIX)] or names
        yield (
            f"{', '.join(arms)}: in separate processes ({process_set.get('reason')}). "
            f"{_other_versions(process_set, first)}A ratio compares rounds of different processes, which take turns on "
            "the same devices."
        )
    yield from registration_notes(run)
    if profiles := (run.meta.get("worker") or {}).get("profiles"):
        yield (
            f"{counted(len(profiles), 'profile')} of torch.profiler are in the directory `{PROFILES}` of the run, one "
            "for each arm and profiled case. Perfetto opens them, and `nccl-bench trace FILE` prints their calls."
        )
    yield from figures_notices([run.device])


def _other_versions(process_set: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    """Return a sentence about the versions that differ between two process sets; empty if none differs."""
    own, usual = process_set.get("versions") or {}, first.get("versions") or {}
    differing = [name for name, version in own.items() if name in usual and version != usual[name]]
    if not differing:
        return ""
    have, other = (", ".join(f"{name} {versions[name]}" for name in differing) for versions in (own, usual))
    return f"They have {have}, and the first processes have {other}. "


def _interpreters(run: Run, separate: Collection[str]) -> Iterator[str]:
    """Yield the Python interpreters of the first process set. Omit arms in ``separate``: other notes name theirs."""
    arms: dict[str, list[str]] = {}
    for arm in run.meta["config"].get("user_arms") or ():
        if arm.get("python") and arm["name"] not in separate:
            arms.setdefault(arm["python"], []).append(arm["name"])
    for python, names in arms.items():
        yield f"{', '.join(names)}: {python} runs the processes."


def figures_notices(devices: Collection[object]) -> Iterator[str]:
    """Yield sentences about what figures measured on ``devices`` do not show."""
    yield from filter(None, (row.figures_notice for row in DEVICES.values() if row.name in devices))


def recorded_user_arms(run: Run) -> list[Mapping[str, Any]]:
    """Return what the workers recorded about each user arm, without twins."""
    recorded = (run.meta.get("worker") or {}).get("user_arms") or []
    return [user_arm for user_arm in recorded if not str(user_arm.get("arm")).endswith(TWIN_SUFFIX)]


def times_note(run: Run) -> str:
    """Return the meaning of the times and ratios."""
    if not run.is_import:
        return (
            "A time is the slowest rank's time (median over rounds). A ratio is the median over rounds of time / "
            f"{run.baseline}'s time in the same round, so it can differ from the quotient of two times shown. "
            "A ratio below 1 is faster."
        )
    return f"Imported: each time is {READERS[run.baseline].rules[over_ranks_of(run.meta)]}."
