from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from nccl_bench.cli import main
from nccl_bench.records.run import Run
from nccl_bench.records.summary_csv import read_summary
from nccl_bench.records.upgrade import upgrade

# One case of a run that nccl-bench 0.1.0 measured on an H200, with two user arms.
RUN_OF_0_1_0 = Path(__file__).parents[2] / "data" / "run-of-0.1.0"


def test_a_run_of_schema_2_is_read_with_todays_names() -> None:
    written = json.loads((RUN_OF_0_1_0 / "run.json").read_text(encoding="utf-8"))
    assert (written["schema"], len(written["config"]["plugins"])) == (2, 2)
    meta = Run.load(RUN_OF_0_1_0).meta
    assert meta["config"]["user_arms"] == written["config"]["plugins"]
    assert meta["worker"]["user_arms"] == written["worker"]["plugins"]
    assert meta["worker"]["process_sets"] == written["worker"]["worlds"]
    assert not {"plugins", "worlds"} & {*meta["config"], *meta["worker"]}


def test_a_run_of_schema_3_is_not_changed() -> None:
    meta = {"schema": 3, "config": {"plugins": "kept"}, "worker": None}
    assert upgrade(meta) == meta


def test_samples_and_summary_of_0_1_0_are_read() -> None:
    run = Run.load(RUN_OF_0_1_0)
    assert [line.arm for line in run.lines] == ["stream-free", "before", "after", "stream-free:twin"]
    assert run.warnings == ()
    assert {arm for _, _, arm in read_summary(RUN_OF_0_1_0 / "summary.csv").times_us} == {*run.arms, "stream-free:twin"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["report"], ["stream-free", "before", "after", "1x H200", "engine_communicators.py:69"]),
        (["compare", "--arms", "stream-free,before"], ["before against stream-free", "eager", "slower"]),
    ],
)
def test_a_run_of_0_1_0_can_be_reported_and_compared(
    arguments: list[str], says: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["nccl-bench", *arguments, str(RUN_OF_0_1_0), "--width", "200"])
    with pytest.raises(SystemExit) as end:
        main()
    printed = capsys.readouterr()
    assert (end.value.code or 0, printed.err) == (0, "")
    assert [text for text in says if text not in printed.out] == []
