"""The facts that rank 0 records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.bench.record import Record
from nccl_bench.records.run import RUN
from nccl_bench.records.store import RunStore
from tests.support.synthetic_runs import meta


def sets(*arms: str) -> list[dict[str, Any]]:
    """Return process sets in the form of ``run.json``; the names of the arms of a set have spaces between them."""
    return [{"arms": of_set.split(), "reason": None} for of_set in arms]


@pytest.mark.parametrize(
    ("earlier", "present", "recorded"),
    [
        ((), ("a b",), ("a b",)),
        (("a", "b", "a:twin"), ("a", "a:twin"), ("a", "a:twin", "b")),
        (("a c", "b", "a:twin"), ("a", "b", "a:twin"), ("a c", "b", "a:twin")),
        (("a", "b", "a:twin"), (), ("a", "b", "a:twin")),
        (("a b", "c"), ("a", "b", "c"), ("a", "b", "c")),
    ],
)
def test_an_arm_that_is_no_longer_measured_keeps_its_process_set(
    tmp_path: Path, earlier: tuple[str, ...], present: tuple[str, ...], recorded: tuple[str, ...]
) -> None:
    (tmp_path / RUN).write_text(json.dumps(meta()))
    store = RunStore(path=tmp_path)
    Record(store, {"process_sets": sets(*present)}, {"process_sets": sets(*earlier)}).update()
    assert store.meta()["worker"]["process_sets"] == sets(*recorded)


def test_memory_and_products_that_change_after_a_write_are_written(tmp_path: Path) -> None:
    (tmp_path / RUN).write_text(json.dumps(meta()))
    store = RunStore(path=tmp_path)
    record = Record(store, {"memory": {"torch": {"device_bytes": [1, 1]}}}, {"products": {"first": [8, 8, 8]}})
    record.update()
    record.memory["torch"]["stranded_bytes"] = 0
    record.update()
    assert store.meta()["worker"]["memory"] == {"torch": {"device_bytes": [1, 1], "stranded_bytes": 0}}
    record.products["second"] = [16, 8, 8]
    record.update()
    assert store.meta()["worker"]["products"] == {"first": [8, 8, 8], "second": [16, 8, 8]}
