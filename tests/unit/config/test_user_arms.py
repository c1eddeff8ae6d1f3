"""User arms, as the command line and a configuration write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nccl_bench.catalog.arms import Order
from nccl_bench.config.run import resolve
from nccl_bench.config.user_arms import Adapter, UserArm, parse_arm_options, spec_of, user_arm_of
from nccl_bench.config.variables import preload
from nccl_bench.errors import UsageError

PATH = UserArm(name="before", target="../engine/pynccl.py:PyNccl")
MINE = {"name": "mine", "target": "mine.py:Mine"}
OTHER = {"name": "other", "target": "mine.py:Other"}
BEFORE, AFTER = ({"name": name, "target": "mine.py:Mine", "tree": name} for name in ("before", "after"))
FEW = {"name": "few", "target": "stream-free", "variables": {"NCCL_MAX_CTAS": "4"}}


@pytest.mark.parametrize(
    ("text", "user_arm"),
    [
        ("before=../engine/pynccl.py:PyNccl", PATH),
        ("mine=pkg.comm:make", UserArm(name="mine", target="pkg.comm:make")),
        ("mine=fast", UserArm(name="mine", target="fast")),
        ("fast", UserArm(name="fast", target="fast")),
        (
            "mine=a,b.py:C.d,order=bare,tree=../x=y,adapter=callable",
            UserArm(name="mine", target="a,b.py:C.d", order=Order.BARE, tree="../x=y", adapter=Adapter.CALLABLE),
        ),
        ("old=torch,python=/envs/a/bin/python", UserArm(name="old", target="torch", python="/envs/a/bin/python")),
    ],
)
def test_an_arm_is_a_name_a_target_and_options(text: str, user_arm: UserArm) -> None:
    assert parse_arm_options([text]) == [user_arm]


def test_the_library_of_an_arm_is_an_absolute_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    relative, absolute = parse_arm_options(
        ["new=torch,library=lib/libnccl.so.2", "x=a.py:A,NCCL_ALGO=Ring,library=/opt/nccl.so"]
    )
    assert relative == UserArm(name="new", target="torch", library=f"{tmp_path}/lib/libnccl.so.2")
    assert (absolute.library, absolute.variables) == ("/opt/nccl.so", {"NCCL_ALGO": "Ring"})
    assert relative.process_settings == (f"library={tmp_path}/lib/libnccl.so.2",)
    config = resolve("cuda", {"user_arms": [relative]})
    assert resolve("cuda", config.to_mapping()).user_arms == (relative,)


@pytest.mark.parametrize("path", ["/a folder/libnccl.so.2", "/a:b/libnccl.so.2"])
def test_a_library_that_the_loader_cannot_read_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="ends a path at a space or a colon; give a link"):
        parse_arm_options([f"new=torch,library={path}"])


def test_the_library_of_an_arm_is_loaded_before_the_libraries_that_were_preloaded_already() -> None:
    assert preload("/n.so", {}, {}) == {"LD_PRELOAD": "/n.so"}
    assert preload("/n.so", {"A": "1"}, {"LD_PRELOAD": "/j.so"}) == {"A": "1", "LD_PRELOAD": "/n.so:/j.so"}
    assert preload("/n.so", {"LD_PRELOAD": "/mine.so"}, {"LD_PRELOAD": "/j.so"}) == {"LD_PRELOAD": "/n.so:/mine.so"}
    assert preload(None, {"A": "1"}, {"LD_PRELOAD": "/jemalloc.so"}) == {"A": "1"}


def test_two_trees_make_two_arms_of_a_target_without_a_name() -> None:
    before, after, third = parse_arm_options(["engine.comm:Make,order=current", "x=y.py:Z"], "../old", "../new")
    assert before == UserArm(name="before", target="engine.comm:Make", tree="../old", order=Order.CURRENT)
    assert after == UserArm(name="after", target="engine.comm:Make", tree="../new", order=Order.CURRENT)
    assert third == UserArm(name="x", target="y.py:Z")


@pytest.mark.parametrize(
    ("texts", "trees", "says"),
    [
        (["engine/comm.py:Make"], (None, None), "'engine/comm.py:Make' has no name: give NAME=TARGET"),
        (["engine.comm:Make"], (None, None), "has no name"),
        (["engine.comm:Make"], ("../old", None), "--before-tree and --after-tree belong together"),
        (["mine=engine.comm:Make"], ("../old", "../new"), "load the --arm without a name"),
        ([], ("../old", "../new"), "load the --arm without a name"),
        (["engine.comm:Make,tree=../x"], ("../old", "../new"), "has a tree, but --before-tree"),
        (["mine=a:b,order=bare,order=current"], (None, None), "gives order twice"),
        (["mine="], (None, None), "target of a user arm is ''"),
        (["mine=a:b,order="], (None, None), "order of a user arm is ''"),
    ],
)
def test_a_malformed_arm_is_refused(texts: list[str], trees: tuple[str | None, str | None], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_arm_options(texts, *trees)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("user_arms", "arms", "expected", "baseline"),
    [
        # A single user arm is compared with torch, and a built-in arm run in another way with that arm.
        ([MINE], None, ("torch", "mine"), "torch"),
        ([MINE], "torch,dedicated-stream", ("torch", "dedicated-stream", "mine"), "torch"),
        ([MINE], "stream-free,dedicated-stream", ("stream-free", "dedicated-stream", "mine"), "dedicated-stream"),
        ([FEW], None, ("stream-free", "few"), "stream-free"),
        ([MINE, OTHER], None, ("mine", "other"), "mine"),
        ([MINE, OTHER], "other,torch", ("other", "torch", "mine"), "other"),
        # Before and after are the question, wherever they stand.
        ([AFTER, MINE, BEFORE], None, ("after", "mine", "before"), "before"),
        ([BEFORE, AFTER], "dedicated-stream,torch", ("dedicated-stream", "torch", "before", "after"), "before"),
        ([AFTER], None, ("torch", "after"), "torch"),
    ],
)
def test_the_arms_of_a_run_are_the_named_arms_and_every_user_arm(
    user_arms: list[dict[str, object]], arms: str | None, expected: tuple[str, ...], baseline: str
) -> None:
    config = resolve("cpu", {"user_arms": user_arms, "arms": arms})
    assert (config.arms, config.baseline) == (expected, baseline)


def test_a_user_arm_and_its_twin_have_one_row() -> None:
    user_arms = [UserArm(name="mine", target="mine.py:Mine", order=Order.FORK_JOIN)]
    for name in ("mine", "mine:twin"):
        row = spec_of(user_arms, name)
        assert (row.name, row.order, row.summary, row.timed) == (name, Order.FORK_JOIN, "mine.py:Mine", True)
        assert user_arm_of(user_arms, name) is user_arms[0]
    assert spec_of(user_arms, "torch").communicator == "process-group"
    assert user_arm_of(user_arms, "torch") is None
