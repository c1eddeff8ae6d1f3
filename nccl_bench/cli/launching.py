"""The device and the ranks of a command, by its options and the machine."""

from __future__ import annotations

from collections.abc import Iterable

from nccl_bench.catalog.devices import DEVICES
from nccl_bench.config.parsers import one_of
from nccl_bench.config.user_arms import UserArm
from nccl_bench.errors import SetupError, UsageError

# Between two ranks every collective moves data, and any machine can run them.
DEFAULT_CPU_RANKS = 2


def choose_device(wanted: object, gpus: int) -> str:
    """Return the device ``wanted``; if that is ``None``, the device that a machine with ``gpus`` GPUs has."""
    if wanted is None:
        return "cuda" if gpus else "cpu"
    return one_of("device", wanted, DEVICES)


def refuse_missing(user_arms: Iterable[UserArm]) -> None:
    """Raise ``UsageError`` where the target of a user arm is missing, as far as it can be checked without an import."""
    from nccl_bench.user_arms.loading import locate

    for user_arm in user_arms:
        if not user_arm.built_in:
            try:
                locate(user_arm.target, user_arm.tree)
            except SetupError as error:
                raise UsageError(f"the arm {user_arm.name}: {error}") from error
