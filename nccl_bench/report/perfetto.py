"""A timeline for Perfetto (ui.perfetto.dev) and chrome://tracing: the rounds of a run in Chrome's Trace Event Format.

See https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU. An event with
``ph`` "X" is a slice of a lane; its ``ts`` and ``dur`` are microseconds. An event with ``ph`` "M" names a lane.
"""

import json
from collections.abc import Iterator, Mapping

from nccl_bench.analysis.analysis import Analysis
from nccl_bench.analysis.timeline import Batch, Timeline, duration_ns, timeline_of
from nccl_bench.report.escaping import json_escapes, visible_data

# One process with a lane for the cases and one for each rank. Perfetto reserves the number 0.
_PROCESS = 1
_CASES = 1
_Event = Mapping[str, object]


def perfetto_report(analysis: Analysis) -> str:
    """Return the timeline of a run, one event in a line. A comparison of runs has no timeline."""
    assert analysis.measured is not None
    timeline = timeline_of(analysis.measured)
    head = {
        "displayTimeUnit": "ns",
        "otherData": {
            "title": analysis.title,
            "version": f"nccl-bench {analysis.measured.meta['version']}",
            "notes": " ".join(timeline.notes),
        },
    }
    name = str(analysis.measured.meta["name"])
    events = ",\n".join(map(_json, (*_names(name, timeline), *_spans(timeline), *_batches(timeline))))
    # The list of events is the last value of the document, after its title and its notes.
    return json_escapes(f'{_json(head)[:-1]}, "traceEvents": [\n{events}\n]}}\n')


def _json(value: object) -> str:
    return json.dumps(visible_data(value), allow_nan=False)


def _names(name: str, timeline: Timeline) -> Iterator[_Event]:
    end_to_end = "" if timeline.has_begins else " (begin times not recorded: batches end to end)"
    yield _metadata("process_name", _CASES, {"name": f"{name}{end_to_end}"})
    for number, lane in enumerate(("cases", *(lane.name for lane in timeline.lanes)), start=_CASES):
        yield _metadata("thread_name", number, {"name": lane})
        yield _metadata("thread_sort_index", number, {"sort_index": number})


def _metadata(name: str, lane: int, facts: _Event) -> _Event:
    return {"ph": "M", "name": name, "pid": _PROCESS, "tid": lane, "args": facts}


def _spans(timeline: Timeline) -> Iterator[_Event]:
    for span in timeline.spans:
        yield _slice(span.name, "cases", _CASES, span.begin_ns, span.end_ns - span.begin_ns, {})


def _batches(timeline: Timeline) -> Iterator[_Event]:
    for number, lane in enumerate(timeline.lanes, start=_CASES + 1):
        for batch, time_us in zip(timeline.batches, lane.times_us, strict=True):
            if time_us is not None:
                length_ns = duration_ns(time_us, batch.operations)
                yield _slice(batch.arm, batch.timing, number, batch.begin_ns, length_ns, _facts(batch, time_us))


def _facts(batch: Batch, time_us: float) -> dict[str, object]:
    facts: dict[str, object] = {
        "case": batch.case.label,
        "timing": batch.timing,
        "round": batch.round,
        "us per operation": time_us,
        "operations": batch.operations,
        "slowest rank": batch.slowest_rank,
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


def _slice(name: str, category: str, lane: int, begin_ns: int, length_ns: int, facts: Mapping[str, object]) -> _Event:
    return {
        "ph": "X",
        "name": name,
        "cat": category,
        "pid": _PROCESS,
        "tid": lane,
        "ts": begin_ns / 1e3,
        "dur": length_ns / 1e3,
        "args": facts,
    }
