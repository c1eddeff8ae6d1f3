"""Two nodes: network namespaces with a cable between them, and the real command in each."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nccl_bench.ranks.progress import read_positions
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Crash, Hang, Samples, Status
from tests.support.command import CommandResult, Sandbox, wait_until
from tests.support.network_namespaces import Node, two_nodes

ARMS = ("stream-free", "torch")
TIMEOUT_S = 4


class TwoNodeRun:
    """A run of one rank on each of two nodes. Node 0 records in ``there``."""

    def __init__(self, sandbox: Sandbox, nodes: tuple[Node, Node], *arguments: str) -> None:
        self.sandbox = sandbox
        self.nodes = nodes
        common = ("-m", "nccl_bench", "run", "--device", "cpu", "--nproc", "1", "--arms", ",".join(ARMS))
        # The tests must find the interface without help.
        env = {name: value for name, value in sandbox.environment().items() if not name.endswith("_SOCKET_IFNAME")}
        self.processes = [
            sandbox.start(
                *common,
                *("-w", "1", "-n", "4", "--timing", "eager", "-T", str(TIMEOUT_S), "--out", "there", *arguments),
                *("--nnodes", "2", "--node-rank", str(rank), "--rdzv-endpoint", f"{nodes[0].address}:29500"),
                env=env,
                within=node.command(),
            )
            for rank, node in enumerate(nodes)
        ]

    def wait_for_lines(self, count: int) -> None:
        """Wait until so many lines are recorded."""
        samples = self.sandbox.cwd / "there" / "samples.jsonl"
        wait_until(lambda: samples.exists() and samples.read_text().count("\n") >= count, self.processes[0])

    def ranks(self) -> dict[int, int]:
        """Return the process of each rank of the first launch."""
        launches = self.sandbox.temporary.glob("nccl-bench-*/launch-*")
        return {each.rank: each.pid for launch in launches for each in read_positions(launch)}

    def wait(self) -> list[CommandResult]:
        """Wait for the end of both commands. Afterwards nothing of theirs is left."""
        ends = [self.sandbox.wait(process) for process in self.processes]
        self.sandbox.assert_nothing_is_left()
        return ends

    def record(self) -> Run:
        return Run.load(self.sandbox.cwd / "there")


@pytest.fixture
def nodes() -> Iterator[tuple[Node, Node]]:
    with two_nodes() as nodes:
        yield nodes


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


def test_two_nodes_relaunch_together_after_a_crash_and_listen_on_the_given_network_only(
    sandbox: Sandbox, nodes: tuple[Node, Node]
) -> None:
    run = TwoNodeRun(sandbox, nodes, "--sizes", "1K:64K:x2", "--rounds", "10", "--max-rounds", "10", "-T", "60")
    seen = [node.listeners() for node in nodes]
    run.wait_for_lines(3)
    # A stopped rank does not see that the other rank has ended. Only its node can learn of it.
    ranks = run.ranks()
    os.kill(ranks[0], signal.SIGSTOP)
    os.kill(ranks[1], signal.SIGKILL)
    while run.processes[0].poll() is None:
        for node, addresses in zip(nodes, seen, strict=True):
            addresses |= node.listeners()
        time.sleep(0.05)
    first, second = run.wait()
    assert (first.code, second.code) == (3, 3), (first.stderr, second.stderr)
    assert second.stdout == ""
    assert "2 ranks on cpu" in first.stdout
    record = run.record()
    assert record.meta["status"] == "complete"
    samples = [line for line in record.lines if isinstance(line, Samples)]
    assert {line.status for line in samples} == {Status.OK}
    sizes = {line.case.size_bytes for line in samples}
    (crash,) = (line for line in record.lines if isinstance(line, Crash))
    assert crash.case is not None
    assert "node 1 has ended this launch" in crash.message
    assert sizes | {crash.case.size_bytes} == {2**power for power in range(10, 17)}
    assert seen[0] - {"127.0.0.1"} == {nodes[0].address}
    assert seen[1] - {"127.0.0.1"} == {nodes[1].address}


def test_a_cut_cable_ends_both_nodes_within_the_deadline_and_30_s(sandbox: Sandbox, nodes: tuple[Node, Node]) -> None:
    run = TwoNodeRun(sandbox, nodes, "--sizes", "1K:1M:x2", "--rounds", "40", "--max-rounds", "40")
    run.wait_for_lines(3)
    nodes[1].cut()
    cut = time.monotonic()
    first, second = run.wait()
    # The time of the measurement itself, which the deadline includes, is estimated and short.
    assert time.monotonic() - cut < TIMEOUT_S + 30 + 5
    assert (first.code, second.code) == (3, 3)
    assert "Ratios below 1 are faster" in first.stdout
    assert "nccl-bench: node 1 did not come back within 20 s: " in first.stderr
    assert first.stderr.endswith("; what was measured before is kept\n")
    assert "nccl-bench: node 0 did not come back within 20 s: " in second.stderr
    assert second.stderr.endswith("; node 0 has the record\n")
    record = run.record()
    assert record.meta["status"] == "failed"
    # Only the case in hand is lost.
    (hang,) = (line for line in record.lines if isinstance(line, Hang | Crash))
    assert isinstance(hang, Hang)
    assert sum(isinstance(line, Samples) for line in record.lines) == 3 * hang.case_index


@pytest.mark.parametrize(
    ("node", "number", "last_word"),
    [(1, signal.SIGINT, "interrupted by SIGINT"), (0, signal.SIGKILL, "its command was killed")],
)
def test_a_node_whose_command_ends_ends_the_other_node(
    sandbox: Sandbox, nodes: tuple[Node, Node], node: int, number: signal.Signals, last_word: str
) -> None:
    run = TwoNodeRun(sandbox, nodes, "--sizes", "1K:1M:x2", "--rounds", "40", "--max-rounds", "40")
    run.wait_for_lines(3)
    run.processes[node].send_signal(number)
    ended = time.monotonic()
    other = run.processes[1 - node]
    other.wait(timeout=60)
    # It does not wait for a deadline, nor for the other node to come back.
    assert time.monotonic() - ended < TIMEOUT_S
    result = run.wait()[1 - node]
    assert result.code == 3
    assert f"nccl-bench: node {node} has ended: {last_word}; " in result.stderr
    if node == 1:
        assert "Ratios below 1 are faster" in result.stdout
        # No rank is blamed for it.
        assert all(isinstance(line, Samples) for line in run.record().lines)
