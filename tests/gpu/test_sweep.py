"""The command on all GPUs: every collective, dtype and redop, and the options that need a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.routes import ROUTED_OPERATIONS
from nccl_bench.catalog.timings import Timing


def sweep(out: Path, *options: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "nccl_bench", "run", "--out", str(out), "--format", "json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=560, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows: list[dict[str, Any]] = json.loads(done.stdout)["summary"]
    return rows


@pytest.mark.gpus(2)
@pytest.mark.timeout(600)
def test_every_collective_dtype_and_redop_is_right_in_every_arm(tmp_path: Path) -> None:
    rows = sweep(
        tmp_path / "run",
        *("--collective", "all", "-d", "all", "-o", "all", "--placement", "all", "--sizes", "48K"),
        # Other tests share the GPUs. With one round, a cell's few batches could all be discarded, which is code 3.
        *("--rounds", "2", "--max-rounds", "2", "-n", "4", "-w", "1", "--timing", "eager,graph"),
    )
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["wrong"] for row in rows} == {0}
    seen = {
        (row["arm"], row["collective"], row["dtype"], row.get("redop"), row["placement"], row["timing"]) for row in rows
    }
    no_out_of_place = {"all_reduce", "broadcast", "reduce"}
    supported = {
        (arm, name, dtype, redop, placement, timing)
        for arm in ("stream-free", "dedicated-stream", "torch", "torch-async", "dedicated-stream:twin")
        for name, row in COLLECTIVES.items()
        for dtype in DTYPES
        for redop in (RedOp if row.reduces else (None,))
        for placement in row.placements
        for timing in (Timing.EAGER, Timing.GRAPH)
        if not (arm.startswith("torch") and placement is Placement.OUT_OF_PLACE and name in no_out_of_place)
        and not (placement is Placement.RETURNED and (arm.startswith("torch") or name != "all_reduce"))
        and (arm, name) != ("torch", "send_recv")
    }
    assert seen == supported


@pytest.mark.alone
@pytest.mark.gpus(2)
@pytest.mark.timeout(300)
@pytest.mark.parametrize("placement", ["in-place", "out-of-place"])
def test_every_layer_of_a_chain_is_right_eagerly_and_in_one_graph(tmp_path: Path, placement: str) -> None:
    rows = sweep(
        tmp_path / "run",
        *("--scenario", "chain", "--hidden", "1K,8K", "--tokens", "1,3,512", "--layers", "7,40", "-d", "bfloat16,half"),
        *("--placement", placement, "--arms", "stream-free,dedicated-stream", "--rounds", "1", "--max-rounds", "1"),
    )
    assert {(row["status"], row["wrong"]) for row in rows} == {("ok", 0)}
    # Two hidden sizes, two numbers of layers, three of tokens, two types, three timings, and two arms with a twin.
    assert len(rows) == 2 * 2 * 3 * 2 * 3 * 3
    assert {row["ops_per_batch"] for row in rows if row["timing"] == "eager"} == {7, 40}


@pytest.mark.alone
@pytest.mark.gpus(2)
@pytest.mark.timeout(300)
def test_early_ranks_wait_for_a_late_rank_as_long_as_its_measured_delay(tmp_path: Path) -> None:
    rows = sweep(
        tmp_path / "run",
        *("--scenario", "skew", "--delays", "0,200,1000", "--sizes", "8,1M", "--arms", "stream-free,torch"),
    )
    for row in rows:
        assert row["status"] == "ok"
        # Ranks leave the alignment a few microseconds apart.
        assert row["wait_us"] == pytest.approx(row["measured_delay_us"], abs=30)
        assert row["measured_delay_us"] == pytest.approx(row["delay_us"], rel=0.2, abs=20)


@pytest.mark.alone
@pytest.mark.gpus(2)
@pytest.mark.timeout(300)
def test_an_overlap_hides_a_part_of_the_gather_and_never_makes_its_result_wrong(tmp_path: Path) -> None:
    rows = sweep(
        tmp_path / "run",
        *("--scenario", "overlap", "--sizes", "16M,64M", "--rounds", "5", "--max-rounds", "5"),
        *("--arms", "stream-free,dedicated-stream,torch,torch-async,transport,coordinator"),
    )
    assert {(row["status"], row["wrong"]) for row in rows} == {("ok", 0)}
    of_device = [row for row in rows if row["timing"] != "enqueue"]
    for row in of_device:
        # A product that was chosen takes about as long as the collective.
        assert row["collective_us"] / 4 < row["product_us"] < 4 * row["collective_us"]
        assert max(row["product_us"], row["collective_us"]) < 1.1 * row["together_us"]
        assert row["hidden_share"] < 1.1
        assert ("product_slowdown" in row) is (row["timing"] != "graph")
    assert max(row["hidden_share"] for row in of_device) > 0.1
    assert len({row["product"] for row in of_device}) == 2


@pytest.mark.alone
@pytest.mark.gpus(2)
@pytest.mark.timeout(400)
def test_two_communicators_on_one_stream_take_about_twice_as_long_as_one(tmp_path: Path) -> None:
    few = ("--sizes", "16M", "--timing", "gated,graph", "--arms", "stream-free,dedicated-stream,torch-async")
    alone = sweep(tmp_path / "alone", *few)
    both = sweep(tmp_path / "both", "--scenario", "contended", "--streams", "1,2", "-T", "60", *few)
    assert {(row["status"], row["wrong"]) for row in both} == {("ok", 0)}
    one_us = {(row["arm"], row["timing"]): row["time_us"] for row in alone}
    for row in both:
        ratio = row["time_us"] / one_us[row["arm"], row["timing"]]
        assert (1.7 if row["streams"] == 1 else 0.9) < ratio < 2.5


@pytest.mark.alone
@pytest.mark.gpus(2)
@pytest.mark.timeout(300)
def test_non_default_arms_and_options_work_on_gpus(tmp_path: Path) -> None:
    rows = sweep(
        tmp_path / "run",
        *("--arms", "stream-free,transport,dedicated-stream,dedicated-stream-wait-stream", "--sizes", "1K,1M"),
        *("--rounds", "2", "--max-rounds", "2", "--per-iteration", "--caller-stream", "default"),
        *("--same-buffer", "-r", "1"),
        *("--collective", "all_reduce,broadcast,gather,send_recv,all_to_all"),
    )
    assert {row["wrong"] for row in rows} == {0}
    # Four arms and the baseline's twin, in all timings except graph, which the default stream does not have.
    assert len(rows) == 5 * 2 * 5 * (len(Timing) - 1)
    percentiles = [row for row in rows if "p99_us" in row]
    assert {row["timing"] for row in percentiles} == {"eager", "gated"}
    assert all(row["p50_us"] <= row["p90_us"] <= row["p99_us"] for row in percentiles)


@pytest.mark.gpus(2)
@pytest.mark.timeout(300)
def test_coordinators_are_right_eagerly_and_in_graphs_with_every_route(tmp_path: Path) -> None:
    arms = ("coordinator", "coordinator-legacy")
    for number, routes in enumerate(("graph=communicator", "eager=communicator,graph=torch")):
        rows = sweep(
            tmp_path / str(number),
            *("--arms", ",".join(arms), "--routes", routes, "--collective", "all", "--sizes", "48K"),
            *("--rounds", "2", "--max-rounds", "2", "-n", "4", "-w", "1", "--timing", "eager,graph"),
        )
        assert {row["status"] for row in rows} == {"ok"}
        assert {row["wrong"] for row in rows} == {0}
        seen = {(row["arm"], row["collective"], row["timing"]) for row in rows}
        assert seen == {
            (arm, name, timing)
            for arm in (*arms, "coordinator:twin")
            for name in COLLECTIVES
            if name in ROUTED_OPERATIONS
            for timing in (Timing.EAGER, Timing.GRAPH)
        }
