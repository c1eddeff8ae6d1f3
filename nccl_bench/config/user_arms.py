"""Arms that the user defines, as the command line and a configuration name them. No torch.

``NAME=TARGET[,KEY=VALUE ...]``. The target is a communicator that somebody else wrote: a file and what to take from it
(``pynccl.py:PyNcclCommunicator``), a module and the same (``engine.comm:make``), or an entry point of the group
``nccl_bench.communicators``; or it is one of our own arms, to be run in another way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeVar

from nccl_bench.catalog.arms import ARMS, TWIN_SUFFIX, USER_ARM, ArmSpec, Order, arm_spec
from nccl_bench.errors import UsageError

GROUP = "nccl_bench.communicators"
BEFORE, AFTER = "before", "after"
# What an arm of somebody else's can be ordered by; how its caller waits for a stream is the caller's business.
ORDERS = (Order.CURRENT, Order.FORK_JOIN, Order.BARE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_T = TypeVar("_T", bound=StrEnum)
FORM = "NAME=TARGET[,KEY=VALUE ...]"
# Communicators that have a transport to choose.
_OVER_TRANSPORT = frozenset({"stream-free", "stream-free-torch-stream", "dedicated-stream", "bare-transport"})
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
# What torchrun tells its ranks.
_LAUNCHER_S = re.compile(r"(LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE|NAME)|MASTER_(ADDR|PORT)|(TORCHELASTIC|PET)_.*")
# Arms' variables are set once a rank knows which are its own, and these are read before.
_READ_AT_START = re.compile(r"(LD|OMP|MKL|MALLOC|GLIBC)_.*|PYTHON.*|TORCH(?!_NCCL_).*")


# As --arm spells them; whatever is in capitals is an environment variable.
_KEYS = ("order", "adapter", "tree", "transport")


class Adapter(StrEnum):
    """The conventions that a communicator can follow."""

    PROTOCOL = "protocol"  # ours, communicators.base.Communicator
    PYNCCL = "pynccl"  # SGLang's PyNcclCommunicator, before and after, and vLLM's
    CALLABLE = "callable"  # an all_reduce of one tensor


ARM_HELP = (
    f"An arm of yours, {FORM}. TARGET: FILE.py:NAME, MODULE:NAME or an entry point, with order (of "
    f"{', '.join(ORDERS)}), adapter (of {', '.join(Adapter)}), tree (a directory); or an arm of ours, with transport. "
    "A KEY in capitals is an environment variable, and the arm gets processes of its own."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserArm:
    """One arm of the user's.

    ``tree`` is the source tree that its modules come from, before anything installed; ``order`` and ``adapter`` are
    ``None`` where they follow from what the target turns out to be. ``transport`` is that of one of our arms, ``None``
    for the run's. ``variables`` are set in the environment of its processes, which are then its own.
    """

    name: str
    target: str
    tree: str | None = None
    order: Order | None = None
    adapter: Adapter | None = None
    transport: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def ours(self) -> bool:
        """Whether it is one of our arms in another way."""
        return self.target in ARMS

    @property
    def spec(self) -> ArmSpec:
        """Its row, as far as it is known before it is loaded."""
        if self.ours:
            return replace(ARMS[self.target], name=self.name, default=False)
        return ArmSpec(
            name=self.name,
            communicator=USER_ARM,
            order=self.order or Order.CURRENT,
            # A fork and a join with events of their own: more than any order takes.
            launch_entries=5,
            summary=self.target,
            # At the most, if it keeps any.
            private_streams=1,
            # Without its join it would win falsely.
            timed=self.order is not Order.BARE,
        )


def parse(texts: Sequence[str], before_tree: str | None = None, after_tree: str | None = None) -> list[UserArm]:
    """The arms that the command line gives; with two trees each target without a name is one before and one after.

    Raises ``UsageError`` saying what was got and what is allowed.
    """
    if (before_tree is None) is not (after_tree is None):
        raise UsageError("--before-tree and --after-tree belong together: give both")
    user_arms = []
    for text in texts:
        found = _parse(text)
        if found["name"] is not None:
            user_arms.append(from_mapping(found))
        elif found["target"] in ARMS:
            raise UsageError(f"--arm {text!r} is one of our own arms: name it with --arms, or give {FORM}")
        elif before_tree is not None:
            if "tree" in found:
                raise UsageError(f"--arm {text!r} names a tree, beside --before-tree and --after-tree: leave it out")
            user_arms += [
                from_mapping(found | {"name": name, "tree": tree})
                for name, tree in ((BEFORE, before_tree), (AFTER, after_tree))
            ]
        elif not re.search("[:/]", str(found["target"])):
            user_arms.append(from_mapping(found | {"name": found["target"]}))
        else:
            raise UsageError(f"--arm {text!r} has no name: give {FORM}, or two trees to take it from")
    if before_tree is not None and not {BEFORE, AFTER} <= {user_arm.name for user_arm in user_arms}:
        raise UsageError("--before-tree and --after-tree need one --arm without a name: what to take from both")
    return user_arms


def _parse(text: str) -> dict[str, object]:
    """As ``from_mapping`` takes it; the name is ``None`` where none is given."""
    target, *options = re.split(rf",(?=(?:{'|'.join(_KEYS)}|{_VARIABLE.pattern})=)", text)
    name, equals, rest = target.partition("=")
    named = bool(equals) and _NAME.fullmatch(name) is not None
    if stray := re.search(r",\s*(\w+)=", target):
        raise UsageError(
            f"--arm {text!r} has {stray[1]!r}, which is no key: allowed are {', '.join(_KEYS)}, and environment "
            "variables in capitals"
        )
    found: dict[str, object] = {"name": name if named else None, "target": rest if named else target}
    variables: dict[str, str] = {}
    for option in options:
        key, _, value = option.partition("=")
        if key in found or key in variables:
            raise UsageError(f"--arm {text!r} gives {key} twice")
        if key in _KEYS:
            found[key] = value
        else:
            variables[key] = value
    return found | ({"variables": variables} if variables else {})


def from_mapping(value: object) -> UserArm:
    """The arm that a table of a configuration describes; raises ``UsageError`` for what does not."""
    keys = ["name", "target", *_KEYS, "variables"]
    if not isinstance(value, Mapping):
        raise UsageError(f"user_arms has {value!r}: give tables with {', '.join(keys)}")
    for key in value:
        if key not in keys:
            raise UsageError(f"a user arm has the unknown key {key!r}: allowed are {', '.join(keys)}")
    given = {key: item for key, item in value.items() if item is not None}
    variables = variables_of(given.pop("variables", {}), "variables of a user arm")
    for variable in variables:
        if _READ_AT_START.fullmatch(variable):
            raise UsageError(
                f"{variable} is read when a process starts, which is before an arm's variables are set: set it for the "
                "whole command, and compare two runs"
            )
    for key, item in given.items():
        if not isinstance(item, str) or not item:
            raise UsageError(f"{key} of a user arm is {item!r}: it has to be a text")
    name, target = given.get("name", ""), given.get("target", "")
    if not _NAME.fullmatch(name) or name in ARMS:
        raise UsageError(
            f"{name!r} cannot be the name of an arm: use up to 64 letters, digits, '.', '_' and '-', a letter or digit "
            f"first, and none of {', '.join(ARMS)}"
        )
    if not target:
        raise UsageError(f"the arm {name} has no target: give {FORM}")
    _refuse_keys(name, target, given, variables)
    return UserArm(
        name=name,
        target=target,
        tree=given.get("tree"),
        order=_one_of(Order, ORDERS, name, "order", given.get("order")),
        adapter=_one_of(Adapter, tuple(Adapter), name, "adapter", given.get("adapter")),
        transport=given.get("transport"),
        variables=variables,
    )


def _refuse_keys(name: str, target: str, given: Mapping[str, str], variables: Mapping[str, str]) -> None:
    """Raise ``UsageError`` where a key makes no sense for the target."""
    if target not in ARMS:
        if "transport" in given:
            raise UsageError(
                f"the arm {name} brings its own transport: transport is for arms of ours, as in x=stream-free"
            )
        return
    for key in ("tree", "order", "adapter"):
        if key in given:
            raise UsageError(f"{key} of the arm {name} is {given[key]!r}, and {target} has its own: leave it out")
    if "transport" in given and ARMS[target].communicator not in _OVER_TRANSPORT:
        able = ", ".join(arm.name for arm in ARMS.values() if arm.communicator in _OVER_TRANSPORT)
        raise UsageError(f"transport of the arm {name} is {given['transport']!r}, and only these choose one: {able}")
    if not variables and "transport" not in given:
        raise UsageError(f"the arm {name} is {target} and nothing else: name {target} with --arms, or say what differs")


def variables_of(value: object, what: str) -> dict[str, str]:
    """Environment variables of a table; raises ``UsageError`` for what is none."""
    if not isinstance(value, Mapping):
        raise UsageError(f"{what} is {value!r}: give a table of NAME = VALUE")
    for name, text in value.items():
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise UsageError(f"{what} has {name!r}: a variable's name has capitals, digits and '_' only")
        if _LAUNCHER_S.fullmatch(name):
            raise UsageError(f"{what} has {name}, which is how the ranks find each other: leave it out")
        if not isinstance(text, str) or "\0" in text:
            raise UsageError(f"{what} has {name} = {text!r}: it has to be a text")
    return dict(value)


def _one_of(kind: type[_T], allowed: Sequence[_T], name: str, key: str, value: str | None) -> _T | None:
    if value is None:
        return None
    if value not in list(allowed):
        raise UsageError(f"{key} of the arm {name} is {value!r}: allowed are {', '.join(allowed)}")
    return kind(value)


def from_list(value: object) -> tuple[UserArm, ...]:
    """Those of a configuration, made already or as tables; raises ``UsageError``, also where two have one name."""
    if not isinstance(value, list | tuple):
        raise UsageError(f"user_arms is {value!r}: give a list of tables")
    user_arms = tuple(item if isinstance(item, UserArm) else from_mapping(item) for item in value)
    names = [user_arm.name for user_arm in user_arms]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two arms are named {name}: give each a name of its own")
    return user_arms


def of_arm(user_arms: Sequence[UserArm], name: str) -> UserArm | None:
    """The user arm behind the arm ``name``, which may be its twin; ``None`` of our own."""
    return next((user_arm for user_arm in user_arms if user_arm.name == name.removesuffix(TWIN_SUFFIX)), None)


def spec_of(user_arms: Sequence[UserArm], name: str) -> ArmSpec:
    """The row of any arm, or twin."""
    user_arm = of_arm(user_arms, name)
    return arm_spec(name) if user_arm is None else replace(user_arm.spec, name=name)
