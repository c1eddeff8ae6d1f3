"""The question of a run: which arms are measured by default, which one is the baseline, and which verdicts answer it.

Somebody who brings a communicator before and after a change asks about these two. Somebody who brings one communicator
asks about that one. Without user arms, every arm is asked about. No torch.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from nccl_bench.catalog.arms import ARMS, DEFAULT_ARMS, DEFAULT_BASELINE
from nccl_bench.config.user_arms import AFTER, BEFORE

# The arm with which a single user arm is compared, unless the user arm is a built-in arm run in another way.
COMPANION = "torch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The arm with which the other arms of a run are compared."""

    arm: str  # the name of the arm
    reason: str  # why it is this arm, as the end of a sentence; empty for a run without user arms


def default_arms(targets: Mapping[str, str]) -> tuple[str, ...]:
    """Return the arms to measure if the user names none; ``targets`` maps each user arm to its target.

    A single user arm gets an arm to be compared with. Several user arms are compared with each other.
    """
    if not targets:
        return DEFAULT_ARMS
    if len(targets) > 1:
        return tuple(targets)
    ((name, target),) = targets.items()
    return (_companion(target), name)


def default_baseline(arms: Sequence[str], targets: Mapping[str, str]) -> Baseline:
    """Return the baseline of ``arms`` if the user names none; ``targets`` maps each user arm to its target."""
    if {BEFORE, AFTER} <= set(arms):
        return Baseline(arm=BEFORE, reason=f"the run has the arms {BEFORE} and {AFTER}")
    if len(targets) == 1:
        ((name, target),) = targets.items()
        companion = _companion(target)
        if companion in arms:
            is_variant = companion == target
            how = f"{name} is {target}, run in another way" if is_variant else f"{name} is the only user arm"
            return Baseline(arm=companion, reason=how)
    return Baseline(arm=DEFAULT_BASELINE if DEFAULT_BASELINE in arms else arms[0], reason="")


def analysed_baseline(arms: Collection[str], recorded: str) -> str:
    """Return the baseline for the analysis of a run with ``arms`` whose ``recorded`` baseline nobody chose.

    The arms of a round are measured together, so any of them can be the baseline.
    """
    asks = {BEFORE, AFTER} <= {*arms}
    return BEFORE if asks and recorded not in (BEFORE, AFTER) else recorded


def asked_candidates(arms: Sequence[str], baseline: str, user_arms: Collection[str]) -> tuple[str, ...]:
    """Return the arms whose verdicts answer the question of the run.

    This is the arm ``after`` if the baseline is ``before``; else the user arms; without user arms, all arms.
    """
    candidates = tuple(arm for arm in arms if arm != baseline)
    if baseline == BEFORE and AFTER in candidates:
        return (AFTER,)
    return tuple(arm for arm in candidates if arm in user_arms) or candidates


def _companion(target: str) -> str:
    return target if target in ARMS else COMPANION
