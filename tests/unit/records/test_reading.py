"""Reading many lines quickly gives what reading each line strictly gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nccl_bench.errors import RecordError
from nccl_bench.records.cost_split import CostSplit
from nccl_bench.records.kernels import Kernel, Kernels
from nccl_bench.records.reading import read_entries
from nccl_bench.records.schema import CaseEnd, Entry, dump, parse
from tests.support.synthetic_runs import case, crash, gpus, hang, imported, part_times, per_iteration, samples, wrong

FILE = Path("samples.jsonl")
KERNELS = Kernels.of([Kernel(algorithm="RING", protocol="LL", channels=4), Kernel(special="copy engine")])
ENTRIES: tuple[Entry, ...] = (
    samples(
        per_iteration=per_iteration(),
        gpus=gpus(),
        launch=3,
        arms_before=(0, 2, 1),
        began_s=(1.5, 2.0, 3.0),
        late=0,
        kernels=KERNELS,
        parts=part_times(),
        cost=CostSplit(stream_us=0.1, call_us=8.0),
    ),
    imported(),
    wrong(case=case(collective="broadcast")),
    CaseEnd(case=case(), launch=2),
    hang(),
    crash(case=None),
)
# Values that a damaged file, or a file of another program, can have in place of a right value.
VALUES = st.sampled_from(
    [None, True, 1, 1.0, -1, 0, 0.5, 2**63, 10**400, "eager", "ok", "", [], [1], [0.5, 2, 3], [1, "2"], {}, {"a": 1}]
)


def read(text: str) -> Entry | str:
    try:
        entries, _ = read_entries([text.encode()], FILE)
    except RecordError as error:
        return str(error)
    return entries[0]


def read_strictly(text: str) -> Entry | str:
    try:
        return parse(text)
    except RecordError as error:
        return f"{FILE}, line 1: {error}"


@given(entry=st.sampled_from(ENTRIES), data=st.data())
def test_a_changed_line_is_read_as_strictly_as_a_single_line(entry: Entry, data: st.DataObject) -> None:
    line: dict[str, Any] = json.loads(dump(entry))
    holders = [line, *(value for value in line.values() if isinstance(value, dict))]
    holder = data.draw(st.sampled_from(holders))
    key = data.draw(st.sampled_from([*holder, "colour"]))
    if data.draw(st.booleans()):
        holder.pop(key, None)
    else:
        holder[key] = data.draw(VALUES)
    text = json.dumps(line) + "\n"
    assert read(text) == read_strictly(text)


@pytest.mark.parametrize("text", ["1e999", "NaN", "-Infinity", "1e400"])
def test_a_number_without_a_value_is_refused(text: str) -> None:
    assert "samples.jsonl, line 1" in str(read(dump(samples()).replace("8.4", text)))


def test_lines_of_one_case_share_the_facts_that_they_repeat() -> None:
    lines = [dump(samples(arm, gpus=gpus())).encode() for arm in ("torch", "stream-free")]
    (first, second), _ = read_entries(lines, FILE)
    for name in ("case", "arena", "gpus", "rounds"):
        assert getattr(first, name) is getattr(second, name)
