"""A workload is read as it was written, and a wrong value is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nccl_bench.catalog.timings import Timing
from nccl_bench.config.run import read_run_config, resolve
from nccl_bench.config.workload import Workload, WorkloadMessage, read_workload, workload_text
from nccl_bench.errors import UsageError

MESSAGE = WorkloadMessage(
    collective="all_reduce", dtype="bfloat16", size_bytes=32768, ranks=2, timing=Timing.GRAPH, count=64
)
OF_MODEL = replace(MESSAGE, size_bytes=64, reason='decode of 1: 2 after "attention"')
WORKLOAD = Workload(
    messages=(MESSAGE, OF_MODEL),
    steps=8,
    source=('trace "1"\n\x7f\x1b\x9b\U0001f600.json',),
    remarks=("messages of others",),
)


def test_a_workload_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "workload.toml").write_text(workload_text(WORKLOAD), encoding="utf-8")
    assert read_workload(tmp_path / "workload.toml") == WORKLOAD


def test_a_file_name_that_is_not_utf_8_is_written_with_question_marks(tmp_path: Path) -> None:
    text = workload_text(replace(WORKLOAD, source=("\udcff.json",)))
    assert text.isascii()
    (tmp_path / "workload.toml").write_text(text, encoding="utf-8")
    assert read_workload(tmp_path / "workload.toml").source == ("?.json",)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("all_reduce", "all_reduced", "message 1: collective is 'all_reduced': did you mean 'all_reduce'?"),
        ("graph", "enqueue", "message 1: timing is 'enqueue': allowed are eager, graph"),
        ("count = 64", "count = 0", "message 1: count is 0: give a whole number from 1 to "),
        ("steps = 8", "steps = true", "workload.toml: steps is True: give a whole number from 1 to 1,000,000"),
        (", count = 64", "", "message 1 has no count: give collective, dtype, size_bytes, ranks, timing, count"),
        ("ranks", "rank", "message 1 has the unknown key 'rank': did you mean 'ranks'?"),
        ('["messages of others', '[3, "messages', "workload.toml: remarks is 3: give a text of at most 4,096 "),
        ("source = [", "source = 3 # [", "workload.toml: source is 3: give a list of texts"),
        ("messages =", "message =", "has the unknown key 'message': did you mean 'messages'?"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(old: str, new: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "workload.toml").write_text(workload_text(WORKLOAD).replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_workload(tmp_path / "workload.toml")
    assert message in str(caught.value)


def test_a_workload_has_at_most_as_many_messages_as_a_record_holds(tmp_path: Path) -> None:
    table = '{collective="reduce",dtype="int8",size_bytes=8,ranks=2,timing="eager",count=1}'
    (tmp_path / "workload.toml").write_text(f"messages = [{','.join([table] * 10_001)}]", encoding="utf-8")
    with pytest.raises(UsageError, match="has 10,001 messages: give at most 10,000"):
        read_workload(tmp_path / "workload.toml")


def test_a_file_with_messages_is_a_workload_and_a_file_of_options_can_name_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("step.toml").write_text(workload_text(WORKLOAD), encoding="utf-8")
    Path("options.toml").write_text("rounds = 7\nworkload = 'step.toml'\n", encoding="utf-8")
    alone, named = (resolve("cuda", read_run_config(Path(name))) for name in ("step.toml", "options.toml"))
    assert (alone.workload, alone.name) == (WORKLOAD, "step")
    assert (named.workload, named.name, named.rounds) == (WORKLOAD, "options", 7)
