"""Thresholds by collective, timing and size."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.limits import Limits, limits_of, parse_threshold, read_limits, recorded_limits
from nccl_bench.errors import RecordError, UsageError

EXAMPLE = Path(__file__).parents[3] / "configs" / "limits.toml"


def of(text: str, default: float = 0.02) -> Limits:
    return limits_of(tomllib.loads(text), default, "limits.toml")


@pytest.mark.parametrize(
    ("value", "share"), [("0.02", 0.02), ("2%", 0.02), (" 2.5 % ", 0.025), (0.1, 0.1), ("1e-3", 0.001), ("99%", 0.99)]
)
def test_a_threshold_is_a_share_or_percent(value: object, share: float) -> None:
    assert parse_threshold(value) == pytest.approx(share)


@pytest.mark.parametrize("value", ["", "%", "2", "0", 0, 1, -0.1, "-1%", "100%", "nan", "inf", "much", True, None, []])
def test_a_threshold_outside_of_0_to_1_is_refused(value: object) -> None:
    with pytest.raises(UsageError) as error:
        parse_threshold(value)
    assert f"threshold is {value!r}: give a share between 0 and 1, such as 0.02 or " in str(error.value)


def test_without_tables_the_default_counts_everywhere() -> None:
    assert of("").threshold("all_reduce", Timing.GATED, 8) == 0.02
    assert of("threshold = '3%'").threshold("all_reduce", Timing.GATED, 8) == 0.03


def test_the_first_table_that_matches_counts() -> None:
    limits = of(
        """
        threshold = 0.03
        [[limits]]
        threshold = 0.05
        collectives = ["all_reduce", "broadcast"]
        sizes = "8:1K"
        [[limits]]
        threshold = "10%"
        timings = "eager, enqueue"
        [[limits]]
        threshold = 0.2
        sizes = "1M:"
        """
    )
    expected = {
        ("all_reduce", Timing.GATED, 8): 0.05,
        ("all_reduce", Timing.EAGER, 1024): 0.05,
        ("all_reduce", Timing.EAGER, 1025): 0.10,
        ("all_reduce", Timing.EAGER, 7): 0.10,
        ("broadcast", Timing.ENQUEUE, 512): 0.05,
        ("all_gather", Timing.ENQUEUE, 512): 0.10,
        ("all_gather", Timing.GRAPH, 512): 0.03,
        ("all_gather", Timing.GRAPH, 2**20 - 1): 0.03,
        ("all_gather", Timing.GRAPH, 2**20): 0.2,
        ("all_reduce", Timing.EAGER, 2**30): 0.10,
    }
    assert {place: limits.threshold(*place) for place in expected} == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("limit = 1", "unknown key 'limit': did you mean 'limits'?"),
        ("threshold = 2", "limits.toml: threshold is 2: "),
        ("limits = 3", "write each as [[limits]]"),
        ("limits = [3]", "write each as [[limits]]"),
        ("[limits]\nthreshold = 0.1", "write each as [[limits]]"),
        ("[[limits]]", "limit 1 has no threshold"),
        ("[[limits]]\nthreshold = 0.1\n[[limits]]\nthreshold = 'x'", "limits.toml, limit 2: threshold is 'x': "),
        ("[[limits]]\nthreshold = 0.1\nsize = '8:'", "limit 1 has the unknown key 'size'"),
        ("[[limits]]\nthreshold = 0.1\nsizes = '8'", "limit 1 has the sizes '8': give FROM:TO"),
        ("[[limits]]\nthreshold = 0.1\nsizes = 8", "limit 1 has the sizes 8: give FROM:TO"),
        ("[[limits]]\nthreshold = 0.1\nsizes = '1M:8'", "the first is above the second"),
        ("[[limits]]\nthreshold = 0.1\nsizes = 'few:'", "limits.toml, limit 1, sizes: 'few' is not a message size"),
        ("[[limits]]\nthreshold = 0.1\nsizes = '1:2:3'", "'2:3' is not a message size"),
        ("[[limits]]\nthreshold = 0.1\ncollectives = []", "limit 1, collectives is empty"),
        ("[[limits]]\nthreshold = 0.1\ncollectives = 'allreduce'", ", ".join(COLLECTIVES)),
        ("[[limits]]\nthreshold = 0.1\ncollectives = [['all_reduce']]", ", ".join(COLLECTIVES)),
        ("[[limits]]\nthreshold = 0.1\ncollectives = {all_reduce = 1}", ", ".join(COLLECTIVES)),
        ("[[limits]]\nthreshold = 0.1\ntimings = ['eager', 3]", ", ".join(Timing)),
        ("[[limits]]\nthreshold = 0.1\ntimings = 3", ", ".join(Timing)),
    ],
)
def test_a_malformed_table_is_refused_in_one_line_with_what_is_allowed(text: str, says: str) -> None:
    with pytest.raises(UsageError) as error:
        of(text)
    assert says in str(error.value)
    assert str(error.value).startswith("limits.toml")
    assert "\n" not in str(error.value)


def test_the_limits_of_a_run_are_read_from_its_record() -> None:
    config: dict[str, object] = {"device": "cpu", "threshold": "5%", "limits": [{"threshold": 0.3, "sizes": ":64"}]}
    limits = recorded_limits(config, 0.02, "the run mine")
    assert [limits.threshold("all_reduce", Timing.EAGER, size) for size in (8, 1024)] == [0.3, 0.05]
    assert recorded_limits({}, 0.02, "the run mine") == Limits(default=0.02)
    with pytest.raises(RecordError, match=r"the run mine cannot be judged: its config: threshold is 7: give a share"):
        recorded_limits({"threshold": 7}, 0.02, "the run mine")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=6,
)
TABLE = st.dictionaries(st.sampled_from(["threshold", "collectives", "timings", "sizes"]) | st.text(max_size=3), VALUES)


@given(st.dictionaries(st.sampled_from(["threshold", "limits"]), VALUES | st.lists(TABLE, max_size=3)))
def test_any_values_are_limits_or_a_usage_error_of_one_line(values: dict[str, object]) -> None:
    message = ""
    try:
        assert 0 < limits_of(values, 0.02, "limits.toml").threshold("all_reduce", Timing.GATED, 8) < 1
    except UsageError as error:
        message = str(error)
    assert len(message.splitlines()) <= 1


@pytest.mark.parametrize("content", [None, b"\xff", b"threshold =", b"[[limits]", b"a = " + b"[" * 5000])
def test_an_unreadable_file_is_refused_in_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "limits.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as error:
        read_limits(path, 0.02)
    assert str(error.value).startswith((f"{path} cannot be read: ", f"{path} is not TOML: "))
    assert str(error.value).count(str(path)) == 1
    assert "\n" not in str(error.value)


def test_the_example_has_the_thresholds_of_its_comments() -> None:
    limits = read_limits(EXAMPLE, 0.5)
    assert limits.default == 0.02
    assert limits.threshold("all_reduce", Timing.EAGER, 1024) == 0.05
    assert limits.threshold("all_reduce", Timing.EAGER, 2048) == 0.10
    assert limits.threshold("all_reduce", Timing.GRAPH, 2048) == 0.02
