"""Arms with processes of their own: which have them, why, and whose turn it is."""

from __future__ import annotations

from pathlib import Path

from nccl_bench.config.run import RunConfig, resolve
from nccl_bench.plan.process_sets import ProcessSet, process_sets_of
from nccl_bench.transports.nccl_library import unread_variables


def config(*arms: dict[str, object], own: str = "stream-free,torch") -> RunConfig:
    return resolve("cpu", {"arms": own, "user_arms": list(arms)})


def variant(name: str, target: str = "stream-free", **variables: str) -> dict[str, object]:
    return {"name": name, "target": target, "variables": variables}


def test_as_a_rule_there_is_one_world() -> None:
    brought = config({"name": "a", "target": "a.py:A"}, {"name": "b", "target": "b.py:B"})
    assert process_sets_of(brought) == (ProcessSet(arms=brought.measured_arms, variables={}, reason=None),)


def test_what_differs_in_its_environment_has_processes_of_its_own_with_whatever_shares_that() -> None:
    ring = {"NCCL_ALGO": "Ring"}
    first, second, third = process_sets_of(
        config(variant("r", **ring), variant("t", NCCL_ALGO="Tree"), variant("s", **ring))
    )
    assert (first.arms, first.reason) == (("stream-free", "torch", "stream-free:twin"), None)
    assert second == ProcessSet(arms=("r", "s"), variables=ring, reason="NCCL_ALGO=Ring is for it alone")
    assert third == ProcessSet(arms=("t",), variables={"NCCL_ALGO": "Tree"}, reason="NCCL_ALGO=Tree is for it alone")


def test_a_twin_is_where_its_arm_is() -> None:
    brought = resolve("cpu", {"arms": "torch", "user_arms": [variant("r", A="1")], "baseline": "r"})
    first, second = process_sets_of(brought)
    assert (first.arms, second.arms) == (("torch",), ("r", "r:twin"))


def test_what_did_not_load_beside_others_is_alone_and_says_why() -> None:
    brought = config({"name": "a", "target": "a.py:A"}, {"name": "b", "target": "b.py:B"})
    first, second = process_sets_of(brought, apart={"b": "ValueError: twice"})
    assert first.arms == ("stream-free", "torch", "a", "stream-free:twin")
    assert (second.arms, second.variables) == (("b",), {})
    assert second.reason == "beside the others it did not get past set-up, ValueError: twice"


def test_what_failed_is_nowhere() -> None:
    brought = config(variant("r", A="1"))
    assert [each.arms for each in process_sets_of(brought, excluded=["r"])] == [
        ("stream-free", "torch", "stream-free:twin")
    ]


def test_a_variable_that_the_library_does_not_name_is_one_that_it_does_not_read(tmp_path: Path) -> None:
    library = tmp_path / "libnccl.so.2"
    library.write_bytes(b"\0NCCL_MAX_CTAS\0NCCL_GRAPH_STREAM\0")
    names = ["NCCL_GRAPH_STREAM_ORDERING", "NCCL_MAX_CTAS", "NCCL_MAX", "PATH"]
    assert unread_variables(str(library), names) == ["NCCL_GRAPH_STREAM_ORDERING", "NCCL_MAX"]
