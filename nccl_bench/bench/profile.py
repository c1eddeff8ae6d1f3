"""Profiles of untimed calls with torch.profiler, after all timed rounds of a run: a file for each arm and case.

A profile is no measurement: the profiler makes each call slower. The profiler watches a GPU through CUPTI. CUPTI stays
in the process, and can slow down later calls. So no rounds are timed after the first profile.
"""

import gzip
import json
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from torch.autograd.profiler import record_function

from nccl_bench.bench.context import CaseContext
from nccl_bench.bench.first_call import try_captures, try_first_calls
from nccl_bench.catalog.arms import is_twin
from nccl_bench.catalog.timings import TIMINGS, Timing
from nccl_bench.errors import RecordError
from nccl_bench.records.meta import RecordedProfile
from nccl_bench.records.run import PROFILES

# The number of eager calls, and of calls in a graph.
CALLS = 10
_NO_NAME = re.compile(r"[^A-Za-z0-9._-]+")


def profile_case(
    context: CaseContext, names: Sequence[str], timings: Sequence[Timing], run_directory: Path | None
) -> list[RecordedProfile]:
    """Profile each arm but the twin, on the first rank of its processes, and return the profiles. Collective.

    A profile has eager calls if one of ``timings`` makes eager calls, and calls in a graph if one of ``timings``
    captures calls. The first rank of each process set writes into ``run_directory``, which only ranks of the first node
    have.
    """
    declined = try_first_calls(context, names)
    names = [name for name in names if name not in declined and not is_twin(name)]
    if not names:
        return []
    context.work.prepare(context, names)
    captures = [TIMINGS[timing].captured for timing in timings]
    eager_calls = 0 if all(captures) else CALLS
    not_captured = {*try_captures(context, names)} if any(captures) else {*names}
    # If a run has only graphs, an arm that declines in graphs makes no calls.
    names = [name for name in names if eager_calls or name not in not_captured]
    profiles = {
        name: RecordedProfile(
            arm=name,
            case=context.case.label,
            file=f"{PROFILES}/{name}.{_NO_NAME.sub('-', context.case.label.removesuffix(' B'))}.json.gz",
            eager_calls=eager_calls,
            graph_calls=0 if name in not_captured else CALLS,
        )
        for name in names
    }
    for name in context.arms.visit(names, "profile"):
        own_set = context.arms.ranks.own_set
        file = None if run_directory is None or own_set.rank else run_directory / profiles[name]["file"]
        _profile(context, profiles[name], file)
        own_set.barrier()
    return list(profiles.values())


def _profile(context: CaseContext, profile: RecordedProfile, file: Path | None) -> None:
    """Make the calls of ``profile``. If there is a ``file``, write the profiler's trace of these calls into it."""
    name, streams = profile["arm"], context.streams
    make_calls = partial(context.call_each, name, CALLS)
    steps: list[tuple[str, Callable[[], None]]] = []
    graph = context.arms[name].capture(make_calls) if profile["graph_calls"] else None
    if profile["eager_calls"]:
        steps.append(("eager", make_calls))
    if graph is not None:
        steps.append(("graph", graph.replay))
    for _, step in steps:
        # A first call can do more than later ones.
        step()
    streams.synchronize()
    context.restore(CALLS)
    with nullcontext() if file is None else streams.profiler() as profiler:
        if profiler is not None:
            _add_group(context)
        for mode, step in steps:
            with record_function(f"{name} {mode}, {context.case.label}"):
                step()
                streams.synchronize()
    if graph is not None:
        graph.reset()
    context.restore(CALLS)
    if file is not None and profiler is not None:
        write_profile(profiler.export_chrome_trace, file)


def _add_group(context: CaseContext) -> None:
    """Write the rank and the number of ranks into the trace of the running profiler, as torch.profiler does."""
    own_set = context.arms.ranks.own_set
    info = {"rank": own_set.rank, "world_size": own_set.world_size, "pg_config": [{"pg_size": own_set.world_size}]}
    torch.autograd._add_metadata_json("distributedInfo", json.dumps(info))  # type: ignore[attr-defined]


def write_profile(export: Callable[[str], object], file: Path) -> None:
    """Let ``export`` write a trace, and compress it into ``file``. Raise ``RecordError`` if writing fails."""
    parts = unpacked, packed = [file.with_name(f".{file.name}.{kind}") for kind in ("json", "part")]
    try:
        file.parent.mkdir(exist_ok=True)
        _remove(parts)
        try:
            export(str(unpacked))
            with (
                unpacked.open("rb") as source,
                packed.open("xb") as target,
                gzip.GzipFile("", "wb", 6, target, 0) as gz,
            ):
                shutil.copyfileobj(source, gz)
            packed.replace(file)
        finally:
            _remove(parts)
    except OSError as error:
        raise RecordError(f"the profile {file} cannot be written: {error.strerror}") from error


def _remove(files: Sequence[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)
