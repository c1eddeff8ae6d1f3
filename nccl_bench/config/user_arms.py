"""User arms, as the command line and a configuration write them: ``NAME=TARGET[,KEY=VALUE ...]``. No torch.

The target is a communicator in a file (``pynccl.py:PyNcclCommunicator``), in a module (``engine.comm:make``), or an
entry point of the group ``nccl_bench.communicators``. The target may also be the name of a built-in arm.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from nccl_bench.catalog.arms import ARMS, TWIN_SUFFIX, USER_ARM, ArmSpec, Order, arm_spec
from nccl_bench.config.nearest import instead_of
from nccl_bench.config.parsers import NAME, NAME_RULE, one_of
from nccl_bench.config.variables import PRELOAD, VARIABLE_NAME, parse_variables
from nccl_bench.errors import UsageError
from nccl_bench.safety.secrets import as_typed, recordable

GROUP = "nccl_bench.communicators"
FORM = "NAME=TARGET[,KEY=VALUE ...]"
BEFORE, AFTER = "before", "after"
# The orders that a user arm can have.
ORDERS = (Order.CURRENT, Order.FORK_JOIN, Order.BARE)
# The keys of --arm, besides environment variables.
_KEYS = ("order", "adapter", "tree", "transport", "python", "library")
_ALL_KEYS = ("name", "target", *_KEYS, "variables")


class Adapter(StrEnum):
    """The conventions that a communicator can follow."""

    PROTOCOL = "protocol"  # communicators.protocol.Communicator of this tool
    PYNCCL = "pynccl"  # PyNcclCommunicator of SGLang (with and without a private stream) and of vLLM
    CALLABLE = "callable"  # a function of one tensor that does an all_reduce


@dataclass(frozen=True, slots=True, kw_only=True)
class UserArm:
    """An arm that the user brings."""

    name: str  # the arm's name in tables and options
    target: str  # the communicator to load, or the name of a built-in arm
    tree: str | None = None  # a directory whose modules win over installed ones; None if there is none
    order: Order | None = None  # the order of its calls; None if the target decides
    adapter: Adapter | None = None  # the convention that the target follows; None if its signatures decide
    transport: str | None = None  # the binding of a built-in arm; None for the binding of the run
    python: str | None = None  # the interpreter of its processes; None for the interpreter of nccl-bench
    library: str | None = None  # the path of the libnccl of its processes; None for the libnccl of the run
    variables: Mapping[str, str] = field(default_factory=dict, hash=False)  # environment variables of its processes

    @property
    def built_in(self) -> bool:
        """True if the target is a built-in arm."""
        return self.target in ARMS

    @property
    def process_settings(self) -> tuple[str, ...]:
        """The settings, as KEY=VALUE, that need processes of their own; empty if the arm can share processes.

        A value that is not recorded is not here either.
        """
        own = {"python": self.python, "library": self.library, **dict(sorted(recordable(self.variables).items()))}
        return tuple(f"{name}={value}" for name, value in own.items() if value is not None)

    @property
    def spec(self) -> ArmSpec:
        """The arm's row of the catalog before the target is loaded. The loaded object can have another order."""
        if self.built_in:
            return replace(ARMS[self.target], name=self.name, default=False)
        return ArmSpec(
            name=self.name,
            communicator=USER_ARM,
            order=self.order or Order.CURRENT,
            # The largest number for any order: two recorded events, two waits and the operation.
            launch_entries=5,
            summary=self.target,
            # An upper limit: a target may have no private stream.
            private_streams=1,
            # Without a join, the arm would look faster than it is.
            timed=self.order is not Order.BARE,
        )


def parse_arm_options(
    texts: Sequence[str], before_tree: str | None = None, after_tree: str | None = None
) -> list[UserArm]:
    """Return the user arms of ``--arm``, ``--before-tree`` and ``--after-tree``.

    With two trees, a target without a name becomes two arms: ``before`` from the first tree, ``after`` from the second.
    Raises ``UsageError`` for texts and combinations that are not allowed.
    """
    if (before_tree is None) is not (after_tree is None):
        raise UsageError("--before-tree and --after-tree belong together: give both")
    user_arms = []
    for text in texts:
        table = _parse_text(text)
        if table["name"] is not None:
            user_arms.append(_from_table(table))
        elif table["target"] in ARMS:
            raise UsageError(f"--arm {text!r} is a built-in arm: name it with --arms, or give {FORM}")
        elif before_tree is not None:
            if "tree" in table:
                raise UsageError(f"--arm {text!r} has a tree, but --before-tree was given: leave one of them out")
            user_arms += [
                _from_table(table | {"name": name, "tree": tree})
                for name, tree in ((BEFORE, before_tree), (AFTER, after_tree))
            ]
        elif not re.search("[:/]", str(table["target"])):
            user_arms.append(_from_table(table | {"name": table["target"]}))
        else:
            raise UsageError(f"--arm {text!r} has no name: give {FORM}, or --before-tree and --after-tree")
    if before_tree is not None and not {BEFORE, AFTER} <= {user_arm.name for user_arm in user_arms}:
        raise UsageError("--before-tree and --after-tree load the --arm without a name: add such an arm, --arm TARGET")
    return user_arms


def arm_text(arm: Mapping[str, Any]) -> str:
    """Return the text of ``--arm`` from which a recorded user arm was made; without a name if ``arm`` has none."""
    keys = [f"{key}={arm[key]}" for key in _KEYS if arm.get(key)]
    variables = [f"{name}={as_typed(value)}" for name, value in (arm.get("variables") or {}).items()]
    name = f"{arm['name']}=" if arm.get("name") and arm["name"] != arm["target"] else ""
    return ",".join((f"{name}{arm['target']}", *keys, *variables))


def split_arm_text(text: str) -> list[str]:
    """Split the text of ``--arm``. Return the target with its name, then each KEY=VALUE."""
    return re.split(rf",(?=(?:{'|'.join(_KEYS)}|{VARIABLE_NAME.pattern})=)", text)


def _parse_text(text: str) -> dict[str, object]:
    """Return the text of ``--arm`` as a table. The table's name is ``None`` if the text has no name."""
    target, *options = split_arm_text(text)
    name, equals, rest = target.partition("=")
    named = bool(equals) and NAME.fullmatch(name) is not None
    if stray := re.search(r",\s*(\w+)=", target):
        raise UsageError(
            f"--arm {text!r} has the unknown key {stray[1]!r}: {instead_of(stray[1], _KEYS)}, and environment "
            "variables in capitals"
        )
    table: dict[str, object] = {"name": name if named else None, "target": rest if named else target}
    variables: dict[str, str] = {}
    for option in options:
        key, _, value = option.partition("=")
        if key in table or key in variables:
            raise UsageError(f"--arm {text!r} gives {key} twice")
        (table if key in _KEYS else variables)[key] = value
    return table | ({"variables": variables} if variables else {})


def parse_user_arms(name: str, value: object) -> tuple[UserArm, ...]:
    """Return the user arms in ``value``, a list of tables or user arms; refuse two arms with the same name."""
    if not isinstance(value, list | tuple):
        raise UsageError(f"{name} is {value!r}: give a list of tables")
    user_arms = tuple(item if isinstance(item, UserArm) else _from_table(item) for item in value)
    names = [user_arm.name for user_arm in user_arms]
    for arm in names:
        if names.count(arm) > 1:
            raise UsageError(f"two arms are named {arm}: give each its own name")
    return user_arms


def _from_table(value: object) -> UserArm:
    """Return the user arm that a table describes; raise ``UsageError`` if a key or a value is not allowed."""
    if not isinstance(value, Mapping):
        raise UsageError(f"user_arms has {value!r}: give tables with {', '.join(_ALL_KEYS)}")
    for key in value:
        if key not in _ALL_KEYS:
            raise UsageError(f"a user arm has the unknown key {key!r}: {instead_of(key, _ALL_KEYS)}")
    given = {key: item for key, item in value.items() if item is not None}
    variables = parse_variables("variables of a user arm", given.pop("variables", {}))
    for key, item in given.items():
        if not isinstance(item, str) or not item:
            raise UsageError(f"{key} of a user arm is {item!r}: give a text")
    name, target = given.get("name", ""), given.get("target", "")
    if not NAME.fullmatch(name) or name in ARMS:
        raise UsageError(f"{name!r} cannot be the name of an arm: {NAME_RULE}; taken are {', '.join(ARMS)}")
    if not target:
        raise UsageError(f"the arm {name} has no target: give {FORM}")
    _refuse_keys(name, target, given, variables)
    return UserArm(
        name=name,
        target=target,
        tree=given.get("tree"),
        order=one_of(f"order of the arm {name}", given["order"], ORDERS) if "order" in given else None,
        adapter=one_of(f"adapter of the arm {name}", given["adapter"], Adapter) if "adapter" in given else None,
        transport=given.get("transport"),
        python=given.get("python"),
        library=_library(name, given["library"]) if "library" in given else None,
        variables=variables,
    )


def _library(name: str, path: str) -> str:
    """Return the absolute path of an arm's libnccl. Raise ``UsageError`` if the loader could not read the path."""
    absolute = os.path.abspath(path)
    if re.search(r"[\s:]", absolute):
        raise UsageError(
            f"library of the arm {name} is {absolute!r}: {PRELOAD}, which loads it, ends a path at a space or a colon; "
            "give a link to the file without them"
        )
    return absolute


def _refuse_keys(name: str, target: str, given: Mapping[str, str], variables: Mapping[str, str]) -> None:
    """Raise ``UsageError`` if there is a key that the target does not take."""
    if target not in ARMS:
        if "transport" in given:
            raise UsageError(
                f"the arm {name} has its own transport: leave the key transport out, which is for built-in arms"
            )
        return
    for key in ("tree", "order", "adapter"):
        if key in given:
            raise UsageError(f"{key} of the arm {name} is {given[key]!r}: {target} takes no {key}, so leave it out")
    if "transport" in given and not ARMS[target].any_binding:
        able = ", ".join(arm.name for arm in ARMS.values() if arm.any_binding)
        raise UsageError(f"transport of the arm {name} is {given['transport']!r}: only these arms take one: {able}")
    if not variables and not {"transport", "python", "library"} & given.keys():
        raise UsageError(
            f"the arm {name} is {target} without any change: name {target} with --arms, or give a variable, a "
            "transport, an interpreter (python) or a library"
        )


def targets_of(user_arms: Sequence[UserArm]) -> dict[str, str]:
    """Return the target of each user arm, by the arm's name."""
    return {user_arm.name: user_arm.target for user_arm in user_arms}


def user_arm_of(user_arms: Sequence[UserArm], name: str) -> UserArm | None:
    """Return the user arm of the arm or twin ``name``; ``None`` for a built-in arm."""
    return next((user_arm for user_arm in user_arms if user_arm.name == name.removesuffix(TWIN_SUFFIX)), None)


def spec_of(user_arms: Sequence[UserArm], name: str) -> ArmSpec:
    """Return the row of any arm or twin."""
    user_arm = user_arm_of(user_arms, name)
    return arm_spec(name) if user_arm is None else replace(user_arm.spec, name=name)
