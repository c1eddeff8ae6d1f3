"""The facts of the headline: results, stream order, machine, command, and what to do next."""

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from nccl_bench.analysis.bands import Band
from nccl_bench.analysis.comparison import Basis
from nccl_bench.analysis.description import progress_text
from nccl_bench.analysis.headline import Fact
from nccl_bench.analysis.machine import NamedRuns, library_text, settings_text, tool_text
from nccl_bench.analysis.next_step import confidence_text, confirming_step, duration_text, next_step
from nccl_bench.analysis.rows import Rows
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.analysis.wording import counted
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.config.common import have_routes
from nccl_bench.config.hidden_values import command_to_type
from nccl_bench.config.user_arms import AFTER, BEFORE, arm_text
from nccl_bench.config.verification import FEWEST_RANKS
from nccl_bench.records.run import TOOL, Run, is_import
from nccl_bench.records.schema import Status
from nccl_bench.safety.secrets import as_typed

# The arm of a cell, its status, and True if its results were checked.
Result = tuple[str | None, str | None, bool]
# The data of the verdicts of a run.
_SOURCES: Mapping[Basis, str] = {
    Basis.ROUNDS: "one launch, so one set of communicators",
    Basis.LAUNCHES: "{launches}, each with new communicators",
}


def run_facts(
    run: Run,
    metas: NamedRuns,
    rows: Rows,
    bands: Sequence[Band],
    basis: Basis,
    steady: str,
    *,
    is_decided: bool = False,
) -> Iterator[Fact]:
    """Yield the facts of a run with these rows, whose ``bands`` answer the question.

    ``steady`` says in a few words whether the machine was steady; empty if that is unknown. With ``is_decided``, step
    times have answered the question, so that open bands need no more measurements.
    """
    for sure in sure_fact(bands, basis):
        yield sure
        yield Fact(name="Basis", text=_SOURCES[basis].format(launches=counted(run.launches, "launch")))
    results = [results_text(results_of(rows)), progress_text(run)]
    yield Fact(name="Results", text="; ".join(filter(None, results)))
    yield Fact(name="Machine", text=machine_text(metas))
    if steady:
        yield Fact(name="Steady", text=steady)
    following = next_fact(() if is_decided else bands, basis, run)
    if following:
        yield following
    # What was not asked, and what the reader has typed, stands last.
    order = order_fact(run)
    if order:
        yield order
    yield from command_facts(metas)


def sure_fact(bands: Sequence[Band], basis: Basis) -> Iterator[Fact]:
    """Yield how sure the verdicts of ``bands`` are, if there are any."""
    if confidence := confidence_text(bands, basis):
        yield Fact(name="Sure", text=confidence)


def results_of(rows: Rows) -> Iterator[Result]:
    """Yield the result of each cell in ``rows``; a cell is a case, an arm and a timing."""
    columns = (rows.column(name) for name in ("timing", "arm", "status", "wrong"))
    return ((arm, status, wrong is not None) for timing, arm, status, wrong in zip(*columns, strict=True) if timing)


def results_text(results: Iterable[Result]) -> str:
    """Return how many cells were right, wrong, not checked and declined."""
    counts = Counter(results)

    def number(status: Status, *, checked: bool | None = None) -> int:
        return sum(count for (_, of, was), count in counts.items() if of == status and checked in (None, was))

    wrong, declined = number(Status.WRONG), number(Status.DECLINED)
    right, unchecked = number(Status.OK, checked=True), number(Status.OK, checked=False)
    parts = []
    if wrong:
        arms = ", ".join(dict.fromkeys(str(arm) for arm, status, _ in counts if status == Status.WRONG))
        parts.append(f"WRONG in {counted(wrong, 'cell')} of {arms}")
    if right:
        every, of_arms = ("all ", " of all arms") if right == counts.total() > 1 else ("", "")
        parts.append(f"right in {every}{counted(right, 'cell')}{of_arms}, on every rank")
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
    if len(texts) > 1:
        of_runs = (f"{', '.join(names)}: {text}" for text, names in texts.items())
        return "; ".join(filter(None, (*of_runs, tool_text(metas))))
    # The date and the minute.
    started = [minute(str(meta.get("started") or "")) for _, meta in metas] if len(metas) == 1 else []
    return ", ".join(filter(None, (*texts, tool_text(metas), *started)))


def device_text(meta: Mapping[str, Any]) -> str:
    """Return the number of ranks and the device: 2x H200, 2 ranks on cpu."""
    device, ranks = str(meta["config"].get("device")), int(meta["launch"].get("world_size") or 0)
    gpus = (meta.get("environment") or {}).get("gpus") or []
    if device in DEVICES and DEVICES[device].has_gpus and gpus and gpus[0].get("name"):
        name = str(gpus[0]["name"]).removeprefix("NVIDIA ")
        # Ranks can share a GPU. The GPUs are those of the first node; an import does not have all of them.
        shared = not is_import(meta) and len(gpus) < (meta["launch"].get("nproc") or 0)
        return f"{counted(ranks, 'rank')} on {len(gpus)}x {name}" if shared else f"{ranks}x {name}"
    return f"{counted(ranks, 'rank')} on {device}"


def _machine(meta: Mapping[str, Any]) -> str:
    environment, worker = meta.get("environment") or {}, meta.get("worker") or {}
    drivers = dict.fromkeys(str(gpu["driver"]) for gpu in environment.get("gpus") or [] if gpu.get("driver"))
    parts = [
        device_text(meta),
        f"torch {str(worker['torch']).partition('+')[0]}" if worker.get("torch") else "",
        library_text(worker, by_binding=not is_import(meta)),
        f"driver {', '.join(drivers)}" if drivers else "",
        settings_text(meta),
    ]
    return ", ".join(filter(None, parts))


def minute(started: str) -> str:
    """Return a time without its seconds, and any other text as it is: an import can have no time."""
    return re.sub(r"^(\d+-\d+-\d+)T(\d+:\d+).*", r"\1 \2", started)


def command_facts(metas: NamedRuns) -> Iterator[Fact]:
    """Yield the command of each run, with the name of its side if there are several runs."""
    names: dict[str, list[str]] = {}
    for name, meta in metas:
        # The output of another tool has no command.
        if isinstance(meta.get("command"), list) and meta["command"]:
            names.setdefault(shlex.join(map(str, meta["command"])), []).append(name)
    for command, of_command in names.items():
        side = ", ".join(of_command) if len(metas) > 1 else ""
        yield command_fact("Command", command, side)


def command_fact(name: str, command: str, side: str, before: str = "") -> Fact:
    """Return a fact that is the command of a side, with the text ``before`` it."""
    about = f"{side}: " if side else ""
    return Fact(name=name, text=f"{about}{before}{command}", command=command, side=side)


def order_fact(run: Run) -> Fact | None:
    """Return that a run does not look at stream order, with the command that does; ``None`` for an import."""
    if run.is_import:
        return None
    command = verify_command(run)
    return Fact(name="Order", text=f"stream order is not tested here: {command}", command=command)


def verify_command(run: Run) -> str:
    """Return the command that verifies the stream order of the arms of ``run``, with the same trees and options."""
    config = run.meta["config"]
    user_arms = {str(arm.get("name")): arm for arm in config.get("user_arms") or ()}
    parts = [TOOL, "verify"]
    before, after = user_arms.get(BEFORE, {}), user_arms.get(AFTER, {})
    in_tree = {"name": None, "tree": None}
    if before.get("tree") and after.get("tree") and {**before, **in_tree} == {**after, **in_tree}:
        parts += ["--before-tree", before["tree"], "--after-tree", after["tree"]]
        parts += ["--arm", arm_text({**before, **in_tree})]
        user_arms = {name: arm for name, arm in user_arms.items() if name not in (BEFORE, AFTER)}
    parts += [part for arm in user_arms.values() for part in ("--arm", arm_text(arm))]
    # Without user arms, verify tries every arm. With user arms, it tries only them, unless --arms names more.
    named = [arm for arm in (run.baseline, *run.asked_arms) if arm not in run.targets]
    if named:
        parts += ["--arms", ",".join(named)]
    if config.get("routes") and have_routes([*named, *user_arms]):
        parts += ["--routes", ",".join(config["routes"])]
    if config.get("nccl_library"):
        parts += ["--nccl-library", config["nccl_library"]]
    if DEVICES.get(run.device) and not DEVICES[run.device].has_gpus:
        parts += ["--device", run.device]
    # The ranks of a verification wait for each other, on one node.
    parts += ["--nproc", str(max(FEWEST_RANKS, run.meta["launch"].get("nproc") or run.world_size))]
    variables = [f"{name}={as_typed(value)}" for name, value in (config.get("variables") or {}).items()]
    return shlex.join([*(["env", *variables] if variables else []), *map(str, parts)])


def next_fact(bands: Sequence[Band], basis: Basis, run: Run) -> Fact | None:
    """Return what to do next: the cause of wrong results, the rest of an incomplete run, or what settles open bands."""
    wrong = run.samples.arm.take(run.samples.status.equals(Status.WRONG)).distinct()
    if wrong and not run.is_import:
        arms = ", ".join(wrong)
        return Fact(name="Next", text=f"look for the cause of the wrong results of {arms}, with the command at Order")
    if run.resume_command:
        command = run.resume_command
        return Fact(name="Next", text=f"measure the rest of this run: {command}", command=command)
    still_open = [band for band in bands if band.verdict is Verdict.INCONCLUSIVE]
    text, options = (next_step if still_open else confirming_step)(bands, basis, run.meta)
    if not text:
        return Fact(name="Next", text="nothing is open") if bands and all(band.verdict for band in bands) else None
    command, _ = command_with(run, options)
    how = command or options
    text += duration_text(run.meta, options)
    return Fact(name="Next", text=f"{text}: {how}" if how else f"{text}.", command=command)


def command_with(run: Run, options: str) -> tuple[str, str]:
    """Return the command of ``run`` with ``options``, and the new directory of its results.

    The command is empty if the run cannot be repeated like this. The directory is empty if the command has no --out.
    """
    command = run.meta.get("command")
    if not isinstance(command, list) or command[1:2] != ["run"] or run.is_import or "--resume" in command:
        return "", ""
    if not options.startswith("--"):
        return "", ""
    words = options.split()
    added = dict(zip(words[::2], words[1::2], strict=True))
    kept: list[str] = []
    out = ""
    given_words = iter(command_to_type(command))
    for word in given_words:
        option, _, given = word.partition("=")
        # The reader of the report can have another terminal.
        if option not in ("--out", "--width", *added):
            kept.append(word)
            continue
        given = given or next(given_words, "")
        if option == "--out":
            out = f"{given.rstrip('/')}-{words[0].strip('-')}-{words[1]}"
    return shlex.join([*kept, *words, *(["--out", out] if out else [])]), out
