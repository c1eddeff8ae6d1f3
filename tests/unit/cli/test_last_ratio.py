"""The ratio of the last case, from a record that grows."""

from __future__ import annotations

from pathlib import Path

from nccl_bench.cli.last_ratio import LastRatio
from nccl_bench.records.schema import CaseEnd, dump
from tests.support.synthetic_runs import case, samples


def test_the_ratio_is_that_of_the_last_case_with_both_arms(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    last = LastRatio(path, "before", "after")
    assert last.read() == ""
    both = "".join(dump(samples(arm=arm, samples_us=times)) for arm, times in (("before", (10, 10)), ("after", (8, 9))))
    end = dump(CaseEnd(case=case()))
    path.write_text(both)
    # The case is not at its end.
    assert last.read() == ""
    with path.open("a") as file:
        file.write(end[:-5])
        file.flush()
        assert last.read() == ""
        file.write(end[-5:] + dump(samples(arm="before")) + end)
    assert last.read() == "1K gated 0.85x"
