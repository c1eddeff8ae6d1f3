"""A process that a launcher started as its only rank."""

from __future__ import annotations

from nccl_bench.launch.config import LaunchConfig
from tests.support.command_line import CommandLine, assert_one_message

ONLY_RANK = {
    "OMPI_COMM_WORLD_RANK": "0",
    "OMPI_COMM_WORLD_SIZE": "1",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "1",
}


def test_the_only_rank_of_a_launcher_is_warned_and_launch_starts_ranks_there(command_line: CommandLine) -> None:
    _, _, stderr = command_line.run("run", "--dry-run", env=ONLY_RANK)
    assert_one_message(stderr, ("mpirun started this process as its only rank", "--launch"))
    assert command_line.observe("run", "--launch", env=ONLY_RANK).launch == LaunchConfig(nproc=2)
    assert command_line.run("run", "--attach", "--dry-run", env=ONLY_RANK)[2] == ""
    assert command_line.observe("verify", env=ONLY_RANK).action == "verified"
