"""Builds the communicator of a user arm, and converts errors into errors that name the arm."""

import torch.distributed as dist

from nccl_bench.config.user_arms import UserArm
from nccl_bench.errors import NcclBenchError, UserArmError
from nccl_bench.safety.secrets import masked
from nccl_bench.transports.device import Device
from nccl_bench.user_arms.communicator import UserCommunicator
from nccl_bench.user_arms.loading import LoadedTarget, load_target
from nccl_bench.user_arms.results import HandleForm
from nccl_bench.user_arms.tracebacks import user_call, user_line

# An error of a later call must name the line in the user's code. The loaded target helps to find that line.
_targets: dict[UserArm, LoadedTarget] = {}
# User arm -> collective -> the form of results that have handles, as far as known. All communicators of an arm share
# this table. So if a call of one communicator returns a handle, later calls of all communicators wait for handles.
_waiting_for: dict[UserArm, dict[str, HandleForm | None]] = {}


def build_user_arm(user_arm: UserArm, group: dist.ProcessGroup, device: Device) -> UserCommunicator:
    """Load the target of ``user_arm`` and return a communicator made from it, over the ranks of ``group``.

    Collective, if the construction of the user's object is collective. Raises ``UserArmError`` with the arm's name, the
    call that failed and the user's line.
    """
    try:
        target = _targets[user_arm] = load_target(user_arm.target, user_arm.tree)
        return UserCommunicator(
            target.value,
            group,
            device,
            adapter=user_arm.adapter,
            order=user_arm.order,
            where=target.where,
            waiting_for=_waiting_for.setdefault(user_arm, {}),
        )
    except (Exception, SystemExit) as error:
        raise as_user_arm_error(user_arm, error) from error


def as_user_arm_error(user_arm: UserArm, error: BaseException) -> UserArmError:
    """Return ``error`` as an error that names the arm, the call and the user's line."""
    if isinstance(error, UserArmError):
        return error
    if isinstance(error, NcclBenchError):
        return UserArmError(f"the arm {user_arm.name}: {error}")
    target = _targets.get(user_arm)
    roots, where = ((), user_arm.target) if target is None else (target.roots, target.where)
    # Python refuses a call with wrong arguments before it enters the user's function, so there is no frame to name.
    call, line = user_call(error, roots) or "a call of the arm", user_line(error, roots) or where
    text = next(iter(masked(str(error)).strip().splitlines()), "")
    raised = f"{call} raised {type(error).__name__}{f': {text}' if text else ''} ({line})"
    return UserArmError(f"the arm {user_arm.name}: {raised}")
