"""User arms: built from a target, ordered as the arm says, with errors of one line that name the arm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.distributed as dist

from nccl_bench.arms.arm import Arm
from nccl_bench.catalog.arms import Order
from nccl_bench.catalog.cases import Case, Scenario
from nccl_bench.catalog.collectives import Placement, RedOp
from nccl_bench.communicators.registry import build
from nccl_bench.config.user_arms import Adapter, UserArm
from nccl_bench.errors import SetupError, UserArmError
from nccl_bench.ranks.process import SETUP_TIMEOUT_S
from nccl_bench.streams import cpu
from nccl_bench.transports.device import Device, open_device
from nccl_bench.user_arms.building import as_user_arm_error, build_user_arm
from nccl_bench.user_arms.communicator import UserCommunicator
from nccl_bench.verify.exchanges import EXCHANGES
from tests.support import small_user_communicators, user_communicators
from tests.support.stream_control import Gate

# A user's engine; the parts in braces vary.
ENGINE = """import torch
from engine.parts import fail


class Comm:
    def __init__(self, group, device):
        {constructor}

    def all_reduce(self, tensor) -> None:
        {all_reduce}
"""
PARTS = """import json


def fail():
    json.loads("{")


def parsed():
    return fail()
"""


@pytest.fixture(scope="module")
def device(group: dist.ProcessGroup) -> Device:
    return open_device("cpu", 0)


Building = Callable[..., tuple[UserArm, UserCommunicator]]


@pytest.fixture
def building(tmp_path: Path, group: dist.ProcessGroup, device: Device) -> Building:
    """Return a function that writes ``ENGINE`` into a tree and builds an arm from it."""

    def building(
        constructor: str = "pass", all_reduce: str = "pass", tree: str = "tree"
    ) -> tuple[UserArm, UserCommunicator]:
        package = tmp_path / tree / "engine"
        package.mkdir(parents=True)
        text = ENGINE.format(constructor=constructor, all_reduce=all_reduce)
        for name, content in (
            ("__init__", ""),
            ("parts", PARTS),
            ("comm", text),
            ("broken", "x = 1\nimport nosuch_module\n"),
        ):
            (package / f"{name}.py").write_text(content, encoding="utf-8")
        user_arm = UserArm(name="mine", target="engine.comm:Comm", tree=str(tmp_path / tree))
        return user_arm, build_user_arm(user_arm, group, device)

    return building


# A line of the user's, the message about it, and the file and line that it names.
FAILURES = [
    ("raise ValueError('no\\n way')", "raised ValueError: no (", None),
    ("raise NotImplementedError", "raised NotImplementedError (", None),
    ("fail()", "raised JSONDecodeError: Expecting property name", "parts.py:5"),
    ("torch.zeros(2) + torch.zeros(3)", "raised RuntimeError: The size of tensor a (2) must match", None),
    ("import nosuch_module", "raised ModuleNotFoundError: No module named 'nosuch_module'", None),
    ("from engine import nosuch", "raised ImportError: cannot import name 'nosuch'", None),
    ("from engine import broken", "raised ModuleNotFoundError: No module named 'nosuch_module'", "broken.py:2"),
    ("import importlib; importlib.import_module('engine.broken')", "raised ModuleNotFoundError", "broken.py:2"),
]


def check_message(error: UserArmError, call: str, says: str, where: str) -> None:
    text = str(error)
    assert text.startswith(f"the arm mine: {call} raised ")
    assert says in text
    assert text.endswith(f"({where})")
    assert "\n" not in text


@pytest.mark.parametrize(("line", "says", "where"), FAILURES)
def test_the_error_of_a_constructor_names_the_arm_and_the_line(
    line: str, says: str, where: str | None, building: Building, tmp_path: Path
) -> None:
    with pytest.raises(UserArmError) as failed:
        building(constructor=line)
    check_message(failed.value, "Comm.__init__", says, f"{tmp_path}/tree/engine/{where or 'comm.py:7'}")


@pytest.mark.parametrize("stream", [cpu.default_stream(), cpu.Stream()], ids=["inline", "queued"])
@pytest.mark.parametrize(("line", "says", "where"), FAILURES)
def test_the_error_of_a_method_names_the_arm_and_the_line(
    line: str, says: str, where: str | None, stream: cpu.Stream, building: Building, tmp_path: Path
) -> None:
    user_arm, communicator = building(all_reduce=line)

    def call() -> None:
        try:
            stream.submit(communicator.all_reduce, torch.zeros(1))
            stream.synchronize()
        except Exception as error:
            raise as_user_arm_error(user_arm, error) from error

    with pytest.raises(UserArmError) as failed:
        call()
    error = failed.value
    check_message(error, "Comm.all_reduce", says, f"{tmp_path}/tree/engine/{where or 'comm.py:10'}")
    assert as_user_arm_error(user_arm, error) is error


def test_an_error_names_the_line_in_its_own_tree(building: Building, tmp_path: Path) -> None:
    trees = ("before", "after")
    built = [building(all_reduce=f"raise ValueError({tree!r})", tree=tree) for tree in trees]
    for tree, (user_arm, communicator) in zip(trees, built, strict=True):
        with pytest.raises(ValueError, match=tree) as failed:
            communicator.all_reduce(torch.zeros(1))
        assert f"{tmp_path}/{tree}/engine/comm.py:10" in str(as_user_arm_error(user_arm, failed.value))


def test_an_error_without_a_frame_of_the_user_names_the_definition(building: Building, tmp_path: Path) -> None:
    user_arm, _ = building()
    message = str(as_user_arm_error(user_arm, TypeError("all_reduce() takes 2 arguments")))
    assert message == (
        "the arm mine: a call of the arm raised TypeError: all_reduce() takes 2 arguments "
        f"({tmp_path}/tree/engine/comm.py:5)"
    )


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("nosuch.comm:Comm", "nosuch.comm:Comm: there is no module nosuch.comm in {tree}"),
        ("engine.broken:Comm", "there is no module nosuch_module, which {tree}/engine/broken.py:2 imports"),
        ("engine.comm:Com", "engine.comm:Com: there is no 'Com' in "),
        ("engine.parts:parsed", "parsed() cannot be called: take (group, device) to make a communicator"),
    ],
)
def test_the_error_for_a_missing_or_unfit_target_names_the_arm(
    target: str, says: str, building: Building, tmp_path: Path, group: dist.ProcessGroup, device: Device
) -> None:
    tree = building()[0].tree
    with pytest.raises(UserArmError) as failed:
        build_user_arm(UserArm(name="mine", target=target, tree=tree), group, device)
    assert str(failed.value).startswith("the arm mine: ")
    assert says.format(tree=tree) in str(failed.value)
    assert "\n" not in str(failed.value)


RESULTS = """def make(group, device):
    def summed(tensor):
        return tensor{}
    return summed
"""


@pytest.mark.parametrize(
    ("result", "got"),
    [
        ("[:tensor.numel() - 1].clone()", "torch.float32 of shape ({},)"),
        (".double()", "torch.float64 of shape ({},)"),
        (".tolist()", "list"),
    ],
)
@pytest.mark.parametrize("later", [False, True])
def test_the_error_for_a_wrong_result_names_the_line_of_the_function(
    result: str, got: str, later: bool, tmp_path: Path, group: dist.ProcessGroup, device: Device
) -> None:
    file = tmp_path / "comm.py"
    # The result is wrong from the first call on, or only for tensors larger than the one that is tried.
    wrong = f".clone() if tensor.numel() < 65 else tensor{result}" if later else result
    file.write_text(RESULTS.format(wrong), encoding="utf-8")
    user_arm = UserArm(name="mine", target=f"{file}:make")

    def call() -> None:
        communicator = build_user_arm(user_arm, group, device)
        try:
            given = torch.zeros(65)
            result = communicator.returning("all_reduce")(given)
            communicator.examine(case("all_reduce", None, Placement.RETURNED), result, given, given)
        except SetupError as error:
            raise as_user_arm_error(user_arm, error) from error

    with pytest.raises(UserArmError) as failed:
        call()
    size = 65 if later else 64
    assert str(failed.value) == (
        f"the arm mine: make.<locals>.summed ({file}:2) of a torch.float32 of shape ({size},) returned a "
        f"{got.format(size - ('numel' in result))}: return None, the input, or a new tensor like the input"
    )


def case(collective: str, redop: RedOp | None, placement: Placement) -> Case:
    facts: dict[str, Any] = {"dtype": "float32", "root": None, "size_bytes": 4, "count": 1}
    return Case(scenario=Scenario.ISOLATED, collective=collective, redop=redop, placement=placement, **facts)


def exchanges(communicator: UserCommunicator) -> set[str]:
    return {name for name in EXCHANGES if communicator.has_exchange(name)}


def test_a_user_communicator_knows_what_it_supports(group: dist.ProcessGroup, device: Device) -> None:
    def built(name: str, module: ModuleType = user_communicators) -> UserCommunicator:
        return build_user_arm(UserArm(name=name, target=f"{module.__file__}:{name}"), group, device)

    after, other = built("EngineAfter"), built("OtherEngine")
    function = built("make_all_reduce", small_user_communicators)
    assert [made.reason_not_ended for made in (after, other, function)] == [None, None, None]
    assert [made.is_dropped for made in (after, other, function)] == [True, False, True]
    assert function.adapter is Adapter.CALLABLE
    line = small_user_communicators.make_all_reduce.__code__.co_firstlineno
    assert Path(function.where).name == f"small_user_communicators.py:{line}"
    assert function.supports(case("all_reduce", RedOp.SUM, Placement.IN_PLACE))
    assert not function.supports(case("all_reduce", RedOp.MAX, Placement.IN_PLACE))
    assert not function.supports(case("all_reduce", RedOp.SUM, Placement.OUT_OF_PLACE))
    assert after.supports(case("all_reduce", RedOp.MAX, Placement.IN_PLACE))
    assert other.supports(case("all_gather", None, Placement.OUT_OF_PLACE))
    assert not other.supports(case("send_recv", None, Placement.OUT_OF_PLACE))
    even = {"all_reduce", "outplace_all_reduce", "all_gather", "reduce_scatter"}
    assert exchanges(after) == even | {"all_gatherv", "reduce_scatterv"}
    assert exchanges(other) == even
    assert exchanges(function) == {"all_reduce"}
    other.close()


def test_a_user_communicator_closes_within_the_limit_of_an_operation(group: dist.ProcessGroup, device: Device) -> None:
    user_arm = UserArm(name="mine", target=f"{user_communicators.__file__}:EngineBefore")
    users, ours = build_user_arm(user_arm, group, device), build("dedicated-stream", group, device)
    assert (users.close_deadline_s(5), ours.close_deadline_s(5)) == (5, SETUP_TIMEOUT_S)
    # The user decides which communicators share a stream, so two user arms may have the same one.
    assert (users.may_share_stream, ours.may_share_stream) == (True, False)
    assert users.private_streams() == [users.stream]
    assert users.untraced_path == f"{users.where}, fork-join"
    ours.close()


def test_code_that_knows_no_streams_runs_in_the_order_of_the_current_stream(
    tmp_path: Path, group: dist.ProcessGroup, device: Device
) -> None:
    file = tmp_path / "plain.py"
    file.write_text("def all_reduce(tensor) -> None:\n    tensor.add_(1)\n", encoding="utf-8")
    arm = Arm("mine", group, device, user_arms=[UserArm(name="mine", target=f"{file}:all_reduce")])
    x, mine = torch.zeros(4), cpu.Stream()
    gate = Gate(mine)
    with cpu.stream(mine):
        arm.bind(case("all_reduce", RedOp.SUM, Placement.IN_PLACE), x, x)()
    before = x.tolist()
    gate.open()
    cpu.synchronize()
    assert before == [0] * 4
    assert x.tolist() == [1] * 4


@pytest.mark.parametrize(
    ("name", "order", "right"),
    [
        ("EngineBefore", None, True),
        ("EngineBefore", Order.FORK_JOIN, True),
        ("EngineBefore", Order.CURRENT, True),
        ("EngineBefore", Order.BARE, False),
        ("EngineAfter", None, True),
        ("OtherEngine", None, True),
    ],
)
def test_an_engine_before_its_refactor_races_with_order_bare(
    name: str, order: Order | None, right: bool, group: dist.ProcessGroup, device: Device
) -> None:
    user_arm = UserArm(name="mine", target=f"{user_communicators.__file__}:{name}", order=order)
    arm = Arm("mine", group, device, user_arms=[user_arm])
    mine, x, y = cpu.Stream(), torch.zeros(4), torch.zeros(4)
    gate = Gate(mine)
    with cpu.stream(mine):
        mine.submit(x.fill_, 7)
        arm.bind(case("all_reduce", RedOp.SUM, Placement.OUT_OF_PLACE), x, y)()
        if arm.spec.order is Order.BARE:
            arm.communicator.stream.synchronize()
        gate.open()
    cpu.synchronize()
    assert y.tolist() == ([7.0] * 4 if right else [0.0] * 4)
    arm.close()
