"""The number of rounds in a launch: the defaults, and the rules that connect the options."""

from collections.abc import Mapping, Sequence
from typing import Any

from nccl_bench.errors import UsageError

# The fewest rounds, unless the user asks for another number: in a run of one launch, and in each of several launches.
# With fewer than six rounds, no interval at 5 % exists.
DEFAULT_ROUNDS, DEFAULT_ROUNDS_OF_LAUNCHES = 15, 6
# The most rounds, unless the user asks for more. A ratio that is not precise after these rounds would need many more.
DEFAULT_MAX_ROUNDS = 60
# The fewest rounds of a case whose time is up, if the user limits the time and not the rounds.
DEFAULT_MIN_ROUNDS = 3


def settle_rounds(values: dict[str, Any], layers: Sequence[Mapping[str, object]]) -> None:
    """Give the options of rounds in ``values`` the values that ``layers`` leave out.

    Raises ``UsageError`` if two of the options contradict each other.
    """
    only_time_is_limited = values["rounds"] is None and any(layer.get("max_seconds") is not None for layer in layers)
    if values["rounds"] is None:
        values["rounds"] = DEFAULT_ROUNDS if values["launches"] == 1 else DEFAULT_ROUNDS_OF_LAUNCHES
    values["min_rounds"] = _min_rounds(values["min_rounds"], values["rounds"], only_time_is_limited)
    values["max_rounds"] = _max_rounds(values["max_rounds"], values["rounds"])


def _min_rounds(fewest: int | None, rounds: int, only_time_is_limited: bool) -> int:
    if fewest is None:
        return min(rounds, DEFAULT_MIN_ROUNDS) if only_time_is_limited else rounds
    if fewest > rounds:
        raise UsageError(f"min_rounds is {fewest}, more than rounds ({rounds}): lower --min-rounds or raise --rounds")
    return fewest


def _max_rounds(most: int | None, fewest: int) -> int:
    if most is None:
        return max(fewest, DEFAULT_MAX_ROUNDS)
    if most < fewest:
        raise UsageError(f"max_rounds is {most}, less than rounds ({fewest}): raise --max-rounds or lower --rounds")
    return most
