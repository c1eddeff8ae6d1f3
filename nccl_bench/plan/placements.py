"""The placement of each arm in a case: the configured one, or the one that the arm has."""

from collections.abc import Mapping, Sequence

from nccl_bench.catalog.arms import TWIN_SUFFIX
from nccl_bench.catalog.collectives import Collective, Placement


def choose_placements(row: Collective, able: Mapping[str, Sequence[Placement]]) -> dict[str, Placement]:
    """Return the placement in which each arm is called.

    ``able`` has the placements of each arm, the preferred one first.

    A caller can exchange the placements of one group in ``row.exchangeable``. The arms are called in placements of the
    group that the most arms support, or of the first such group. An arm without a placement of this group is called in
    the placement that it prefers.
    """

    def arms_with(group: Sequence[Placement]) -> int:
        return sum(not {*group}.isdisjoint(able[name]) for name in able if not name.endswith(TWIN_SUFFIX))

    chosen = max(row.exchangeable, key=arms_with)
    placements = {}
    for name, (preferred, *rest) in able.items():
        candidates = [preferred] if preferred in chosen else [placement for placement in chosen if placement in rest]
        placements[name] = candidates[0] if candidates else preferred
    return placements
