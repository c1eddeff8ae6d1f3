"""The JSON Schema of records accepts and refuses what their reader does."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, validators

from nccl_bench.errors import RecordError
from nccl_bench.records.decoding import decode, parse_json
from nccl_bench.records.json_schema import json_schema
from nccl_bench.records.meta import RunMeta
from nccl_bench.records.run import RUN, SAMPLES
from nccl_bench.records.schema import from_json
from tests.support.fuzzed_readers import READERS
from tests.support.mutations import change_json, dumped
from tests.support.synthetic_runs import case, gpus, meta, per_iteration, samples

RESULTS = Path(__file__).parents[3] / "results"
# For JSON Schema 1.0 is an integer, for the reader it is none.
STRICT = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _checker, value: type(value) is int)
SCHEMA = validators.extend(Draft202012Validator, type_checker=STRICT)(json_schema())
# What only the reader checks: see the page `formats` of the guide.
ONLY_THE_READER = ("differ in length", "collective is", "dtype is")


def seeds() -> Iterator[Any]:
    """Yield records with every kind of line."""
    for files in READERS["run"].seeds():
        yield json.loads(files[RUN])
        yield from map(json.loads, files[SAMPLES].splitlines())


def reason_of_reader(value: Any) -> str:
    """Return why the reader refuses ``value``; empty if it accepts it."""
    try:
        if "schema" in value:
            decode(RunMeta, value, "")
        else:
            from_json(value)
    except RecordError as error:
        return str(error)
    return ""


def test_every_kept_run_fits_the_schema() -> None:
    directories = [file.parent for file in sorted(RESULTS.glob("*/run.json"))]
    assert len(directories) > 3
    for directory in directories:
        SCHEMA.validate(json.loads((directory / RUN).read_bytes()))
        # The lines of a run are alike.
        for line in (directory / SAMPLES).read_bytes().splitlines()[::7]:
            SCHEMA.validate(json.loads(line))


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": "5"},
        {"launch": {"world_size": 0}},
        {"launch": {}},
        {"environment": []},
        {"left_out": [1]},
        {"worker": {"libraries": [{"version": 2}]}},
        {"worker": {"loop_cost_us": -1.0}},
        {"config": {"device": "cpu", "baseline": "torch", "arms": "torch"}},
        {"config": {"device": "cpu", "baseline": "torch", "arms": ["torch"], "user_arms": [{"name": "mine"}]}},
    ],
)
def test_the_schema_refuses_a_wrong_run(changes: dict[str, Any]) -> None:
    right = meta()
    SCHEMA.validate(right)
    assert not SCHEMA.is_valid(right | changes)


def test_the_schema_needs_what_the_reader_needs() -> None:
    for name in RunMeta.__required_keys__:
        assert not SCHEMA.is_valid({key: value for key, value in meta().items() if key != name})


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "sample"},
        {"timing": "fast"},
        {"unknown": 1},
        {"samples_us": [0.0]},
        {"samples_us": ["1"]},
        {"launch": 0},
        {"case": case().collective},
        {"gpus": {"sm_clock_mhz": 1}},
        {"per_iteration": {"operations": 1, "min_us": 1.0}},
    ],
)
def test_the_schema_refuses_a_wrong_line(changes: dict[str, Any]) -> None:
    right = json.loads(json.dumps(samples(gpus=gpus(), per_iteration=per_iteration()).to_json()))
    SCHEMA.validate(right)
    assert not SCHEMA.is_valid(right | changes)


def test_schema_and_reader_agree_about_changed_records() -> None:
    chance = random.Random(1)
    values = list(seeds())
    accepted = refused = 0
    for _ in range(1000):
        try:
            value = parse_json(dumped(change_json(chance, chance.choice(values))).decode())
        except RecordError:
            # It is no plain data, so the reader does not look at its fields.
            continue
        if not isinstance(value, dict):
            continue
        reason = reason_of_reader(value)
        if not any(words in reason for words in ONLY_THE_READER):
            assert SCHEMA.is_valid(value) == (not reason), (reason, value)
        accepted += not reason
        refused += bool(reason)
    assert accepted > 100
    assert refused > 100
