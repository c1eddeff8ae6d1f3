"""The arms of a run, and the arm with which the others are compared."""

from collections.abc import Sequence

from nccl_bench.catalog.arms import ARMS, ArmSpec
from nccl_bench.catalog.devices import DeviceSpec
from nccl_bench.config.common import resolve_arms
from nccl_bench.config.nearest import instead_of
from nccl_bench.config.question import default_arms, default_baseline
from nccl_bench.config.user_arms import UserArm, targets_of
from nccl_bench.errors import UsageError


def timed_arms() -> list[ArmSpec]:
    """Return the built-in arms that a run can measure."""
    return [arm for arm in ARMS.values() if arm.timed]


def choose_arms(name: str, value: object, user_arms: Sequence[UserArm], device: DeviceSpec) -> tuple[str, ...]:
    """Return the arms to measure: the named arms, then the user arms."""
    for user_arm in user_arms:
        if not user_arm.spec.timed:
            raise UsageError(
                f"the arm {user_arm.name} has the order {user_arm.spec.order}: without a join the arm would look "
                "faster than it is, so only nccl-bench verify accepts this order: give another order, such as fork-join"
            )
    if value is not None:
        return resolve_arms(name, value, device, timed_arms(), user_arms)
    return default_arms(targets_of(user_arms))


def choose_baseline(name: str, value: object, arms: Sequence[str], user_arms: Sequence[UserArm]) -> str:
    """Return the arm with which the other arms are compared."""
    if value is None:
        return default_baseline(arms, targets_of(user_arms)).arm
    if value not in arms:
        raise UsageError(f"{name} is {value!r}, which is no arm of this run: {instead_of(value, arms)}")
    return str(value)
