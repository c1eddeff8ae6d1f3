"""torchrun's command line and environment, and what is made of the traces of a dead worker. No processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from nccl_bench.errors import UsageError
from nccl_bench.launch.crashes import find_death, tail
from nccl_bench.launch.torchrun import LaunchConfig, parse_endpoint, worker_environment
from nccl_bench.ranks.failure import Failure
from nccl_bench.ranks.progress import Position


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_one_node_meets_on_a_free_port_of_its_own() -> None:
    launch = LaunchConfig(nproc=4)
    command = launch.command(Path("/s/spec.json"), Path("/s/logs"), 0)
    assert command[-3:] == ["-m", "nccl_bench.bench.worker", "/s/spec.json"]
    assert option(command, "--nproc-per-node") == "4"
    assert option(command, "--nnodes") == "1"
    assert option(command, "--rdzv-endpoint") == "127.0.0.1:0"
    assert option(command, "--max-restarts") == "0"
    assert option(command, "--log-dir") == "/s/logs"
    again = launch.command(Path("/s/spec.json"), Path("/s/logs"), 0)
    assert option(command, "--rdzv-id") != option(again, "--rdzv-id")


def test_several_nodes_meet_statically_and_on_another_port_each_time() -> None:
    nodes = [LaunchConfig(nproc=8, nnodes=2, node_rank=rank, rdzv_endpoint="node0:29500") for rank in (0, 1)]
    for attempt in (0, 3):
        commands = [node.command(Path("spec"), Path("logs"), attempt) for node in nodes]
        assert [option(command, "--node-rank") for command in commands] == ["0", "1"]
        for command in commands:
            assert option(command, "--rdzv-backend") == "static"
            assert option(command, "--master-addr") == "node0"
            assert option(command, "--master-port") == str(29500 + attempt)
        assert option(commands[0], "--rdzv-id") == option(commands[1], "--rdzv-id")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nproc": 0}, "--nproc is 0"),
        ({"nproc": 1, "nnodes": 0}, "--nnodes is 0"),
        ({"nproc": 1, "nnodes": 2}, "give every one of them --rdzv-endpoint"),
        ({"nproc": 1, "nnodes": 2, "node_rank": 2, "rdzv_endpoint": "a:1"}, "it is 0 to 1"),
        ({"nproc": 1, "node_rank": -1}, "--node-rank is -1"),
        ({"nproc": 1, "rdzv_endpoint": "a"}, "--rdzv-endpoint is 'a'"),
    ],
)
def test_what_does_not_go_together_is_refused(values: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LaunchConfig(**values)


@pytest.mark.parametrize("text", ["", "host", "host:", ":1", "host:0", "host:65536", "host:-1", "host:x"])
def test_endpoints_without_host_or_port_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        parse_endpoint(text)


def test_endpoints() -> None:
    assert parse_endpoint("host:29500") == ("host", 29500)
    assert parse_endpoint("[fe80::1]:1") == ("fe80::1", 1)


def test_workers_keep_the_environment_and_find_the_package() -> None:
    variables = worker_environment({"NCCL_DEBUG": "INFO", "PYTHONPATH": "/mine", "OMP_NUM_THREADS": "7"})
    assert variables["NCCL_DEBUG"] == "INFO"
    assert variables["OMP_NUM_THREADS"] == "7"
    root, mine = variables["PYTHONPATH"].split(os.pathsep)
    assert mine == "/mine"
    assert (Path(root) / "nccl_bench" / "launch" / "torchrun.py").is_file()
    assert worker_environment({})["OMP_NUM_THREADS"] == "1"
    assert os.pathsep not in worker_environment({})["PYTHONPATH"]


def test_torchrun_options_of_a_pod_do_not_reach_our_torchrun() -> None:
    assert not [
        name for name in worker_environment({"PET_RDZV_ENDPOINT": "job:1", "PET_NNODES": "2"}) if "PET_" in name
    ]


POSITIONS = [
    Position(rank=rank, local_rank=rank, host="box", pid=1, case_index=4, arm="torch", step=9 - rank) for rank in (0, 1)
]
BLOCK = """[{index}]:
  time      : 2030-01-01_00:00:{second:02}
  host      : box.example
  rank      : {rank} (local_rank: {rank})
  exitcode  : {code} (pid: 123)
  error_file: <N/A>
  traceback : To enable traceback see: https://pytorch.org
"""


def leave(
    scratch: Path, *exits: tuple[int, int], failures: tuple[tuple[int, float], ...] = (), seconds: Sequence[int] = ()
) -> None:
    """Write what torchrun and its workers would: ``exits`` are (rank, code), the root cause last."""
    blocks = [
        BLOCK.format(index=index, rank=rank, code=code, second=second)
        for index, ((rank, code), second) in enumerate(zip(exits, seconds or [0] * len(exits), strict=True))
    ]
    (scratch / "torchrun.log").write_text("W0101 noise\n" + "".join(blocks) + "last line\n", encoding="utf-8")
    for rank, _ in exits:
        logs = scratch / "logs" / "abc_1" / "attempt_0" / str(rank)
        logs.mkdir(parents=True)
        (logs / "stderr.log").write_text("".join(f"line {n} of {rank}\n\n" for n in range(40)), encoding="utf-8")
    for rank, moment in failures:
        Failure(
            rank=rank, host="box", case_index=5, arm="a", kind="ValueError", message="no", exit_code=3, time=moment
        ).write(scratch)


def test_the_first_exception_is_the_reason(tmp_path: Path) -> None:
    leave(tmp_path, (1, -15), (0, 1), failures=((0, 2.0), (1, 1.0)))
    death = find_death(tmp_path, POSITIONS, 1)
    assert death.message == "rank 1 on box ended with exit code 3: ValueError: no"
    assert (death.rank, death.case_index, death.arm) == (1, 5, "a")


@pytest.mark.parametrize(("code", "name"), [(-11, "SIGSEGV"), (-9, "SIGKILL"), (-6, "SIGABRT")])
def test_a_signal_comes_before_the_exceptions_it_causes_elsewhere(tmp_path: Path, code: int, name: str) -> None:
    leave(tmp_path, (0, 3), (1, code), failures=((0, 1.0),))
    death = find_death(tmp_path, POSITIONS, 1)
    assert (death.rank, death.host, death.case_index, death.arm) == (1, "box", 4, "torch")
    assert death.message.startswith(f"rank 1 on box was killed by {name}")
    assert death.message.endswith("line 35 of 1\nline 36 of 1\nline 37 of 1\nline 38 of 1\nline 39 of 1")
    assert "line 34" not in death.message


def test_a_rank_killed_and_one_that_raised_because_of_it_may_be_found_together(tmp_path: Path) -> None:
    leave(tmp_path, (1, -9), (0, 3), failures=((0, 1.0),), seconds=(1, 0))
    assert find_death(tmp_path, POSITIONS, 1).message.startswith("rank 1 on box was killed by SIGKILL")


def test_a_straggler_that_torchrun_killed_is_no_reason(tmp_path: Path) -> None:
    leave(tmp_path, (1, -9), (0, 3), failures=((0, 1.0),), seconds=(2, 0))
    assert "ValueError" in find_death(tmp_path, POSITIONS, 1).message


def test_an_abort_after_an_exception_is_the_exception(tmp_path: Path) -> None:
    leave(tmp_path, (1, -15), (0, -6), failures=((0, 1.0),))
    assert "ValueError" in find_death(tmp_path, POSITIONS, 1).message


def test_the_sigterm_that_torchrun_sends_is_no_reason(tmp_path: Path) -> None:
    leave(tmp_path, (0, -15), failures=((1, 1.0),))
    assert find_death(tmp_path, POSITIONS, 1).rank == 1


def test_a_worker_that_left_nothing_is_told_by_its_exit_code(tmp_path: Path) -> None:
    leave(tmp_path, (1, 17))
    assert find_death(tmp_path, POSITIONS, 1).message.startswith("rank 1 on box ended with exit code 17:\nline 35")


def test_torchrun_itself_is_quoted_where_no_worker_started(tmp_path: Path) -> None:
    leave(tmp_path)
    death = find_death(tmp_path, [], 2)
    assert death.case_index == -1
    assert "torchrun ended with exit code 2:\nW0101 noise\nlast line" in death.message


def test_leaving_early_with_exit_code_0_is_told(tmp_path: Path) -> None:
    leave(tmp_path)
    assert find_death(tmp_path, POSITIONS, 0).message == "rank 1 on box ended before its last case, with exit code 0"


def test_the_tail_of_nothing_is_empty(tmp_path: Path) -> None:
    assert tail(None) == tail(tmp_path / "absent") == ""
