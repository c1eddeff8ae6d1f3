"""The arms of each process set, and why an arm is not in the first one."""

from __future__ import annotations

from nccl_bench.config.run import RunConfig, resolve
from nccl_bench.plan.process_sets import ProcessSet, process_sets_of

TWIN_REASON = "so that the noise floor contains what differs between processes"


def config(*arms: dict[str, object], own: str = "stream-free,torch") -> RunConfig:
    return resolve("cpu", {"arms": own, "user_arms": list(arms)})


def variant(name: str, target: str = "stream-free", **variables: str) -> dict[str, object]:
    return {"name": name, "target": target, "variables": variables}


def test_most_runs_have_one_process_set() -> None:
    run = config({"name": "a", "target": "a.py:A"}, {"name": "b", "target": "b.py:B"})
    assert process_sets_of(run) == (ProcessSet(arms=run.measured_arms, variables={}, reason=None),)


def test_arms_with_the_same_variables_share_a_process_set() -> None:
    ring = {"NCCL_ALGO": "Ring"}
    first, second, third, twin = process_sets_of(
        config(variant("r", **ring), variant("t", NCCL_ALGO="Tree"), variant("s", **ring))
    )
    assert (first.arms, first.reason) == (("stream-free", "torch"), None)
    assert second == ProcessSet(arms=("r", "s"), variables=ring, reason="NCCL_ALGO=Ring is set only in these processes")
    assert third == ProcessSet(
        arms=("t",), variables={"NCCL_ALGO": "Tree"}, reason="NCCL_ALGO=Tree is set only in these processes"
    )
    assert (twin.arms, twin.variables, twin.reason) == (("stream-free:twin",), {}, TWIN_REASON)


def test_arms_with_the_same_interpreter_and_variables_share_a_process_set() -> None:
    old, new, ring = (
        {"name": name, "target": "pynccl.py:C", "python": f"/envs/{env}/bin/python", "variables": variables}
        for name, env, variables in (("old", "a", {}), ("new", "b", {}), ("ring", "b", {"NCCL_ALGO": "Ring"}))
    )
    again = {"name": "again", "target": "stream-free", "python": "/envs/a/bin/python"}
    sets = process_sets_of(config(old, new, again, ring, own="torch"))
    assert [(each.arms, each.python, each.reason) for each in sets] == [
        (("torch",), None, None),
        (("old", "again"), "/envs/a/bin/python", "/envs/a/bin/python runs these processes"),
        (("new",), "/envs/b/bin/python", "/envs/b/bin/python runs these processes"),
        (
            ("ring",),
            "/envs/b/bin/python",
            "/envs/b/bin/python runs these processes; NCCL_ALGO=Ring is set only in these processes",
        ),
        (("torch:twin",), None, TWIN_REASON),
    ]
    assert sets[1].to_mapping()["python"] == "/envs/a/bin/python"


def test_arms_with_the_same_library_share_a_process_set_which_is_started_afresh() -> None:
    new = {"target": "stream-free", "library": "/opt/new.so"}
    user_arms = [
        {"name": "new", **new},
        {"name": "new-torch", **new, "target": "torch"},
        {"name": "ring", **new, "variables": {"NCCL_ALGO": "Ring"}},
    ]
    run = resolve("cuda", {"arms": "stream-free,torch", "user_arms": user_arms, "baseline": "new"})
    first, second, third, twin = process_sets_of(run)
    assert (first.arms, first.library) == (("stream-free", "torch"), None)
    assert (second.arms, second.library, second.variables) == (("new", "new-torch"), "/opt/new.so", {})
    assert second.reason == "only these processes load /opt/new.so, so they are started afresh and not forked"
    assert (third.arms, third.library, third.variables) == (("ring",), "/opt/new.so", {"NCCL_ALGO": "Ring"})
    assert (twin.arms, twin.library, twin.reason) == (("new:twin",), "/opt/new.so", TWIN_REASON)


def test_the_twin_of_several_process_sets_has_what_its_arm_needs() -> None:
    run = resolve("cpu", {"arms": "torch", "user_arms": [variant("r", A="1")], "baseline": "r"})
    assert [(each.arms, each.variables) for each in process_sets_of(run)] == [
        (("torch",), {}),
        (("r",), {"A": "1"}),
        (("r:twin",), {"A": "1"}),
    ]


def test_an_arm_that_fails_beside_others_is_alone_with_the_reason() -> None:
    run = config({"name": "a", "target": "a.py:A"}, {"name": "b", "target": "b.py:B"})
    first, second, twin = process_sets_of(run, apart={"b": "ValueError: twice"})
    assert (first.arms, twin.arms) == (("stream-free", "torch", "a"), ("stream-free:twin",))
    assert (second.arms, second.variables) == (("b",), {})
    assert second.reason == "the arm's set-up failed beside other arms: ValueError: twice"


def test_an_excluded_arm_is_in_no_process_set() -> None:
    run = config(variant("r", A="1"))
    assert [each.arms for each in process_sets_of(run, excluded=["r"])] == [
        ("stream-free", "torch", "stream-free:twin")
    ]
