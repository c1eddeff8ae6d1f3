"""One proof: what to probe, in which launches of the ranks, what was found, and what follows from it. No torch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from nccl_bench.plan.verification import ArmProbe

# Of one arm, in one launch after the other.
MOST_BROKEN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What came of a cell: ``failed`` of ``trials``, ``raced`` of them by their order alone.

    ``detail`` is about the first that failed, or says why there was no trial, ``quiet`` the places at which none raced.
    ``broken`` says that the probe did not come to an end: an exception, a crash or a hang, which count as one trial;
    ``unmade`` that it did not begin, since the user's arm could not be made.
    """

    arm: str
    probe: str
    trials: int
    failed: int
    detail: str | None
    raced: int = 0
    quiet: tuple[str, ...] = ()
    broken: bool = False
    unmade: bool = False

    @property
    def arm_probe(self) -> ArmProbe:
        """Of which cell."""
        return ArmProbe(arm=self.arm, probe=self.probe)


def append_finding(path: Path, finding: Finding) -> None:
    """Add a line to the file of findings, in place of a part of one that a killed writer left."""
    whole = path.read_text(encoding="utf-8").rpartition("\n") if path.exists() else ("", "", "")
    if whole[2]:
        path.write_text(whole[0] + whole[1], encoding="utf-8")
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(finding)) + "\n")


def read_findings(path: Path) -> Sequence[Finding]:
    """Every complete line of the file of findings, of which the last about a cell counts."""
    if not path.exists():
        return []
    *complete, _ = path.read_text(encoding="utf-8").split("\n")
    mappings = (json.loads(line) for line in complete)
    return [Finding(**mapping | {"quiet": tuple(mapping["quiet"])}) for mapping in mappings]


def find_given_up_arms(findings: Iterable[Finding]) -> Mapping[str, Finding]:
    """What is found of every further probe of an arm that is tried no more: each would cost another launch.

    That is of one that broke in ``MOST_BROKEN`` cells, or could not be made.
    """
    given_up: dict[str, Finding] = {}
    broken = Counter[str]()
    for finding in findings:
        broken[finding.arm] += finding.broken
        if finding.unmade:
            given_up[finding.arm] = finding
        elif broken[finding.arm] >= MOST_BROKEN:
            detail = f"not tried: the arm hung or crashed in {MOST_BROKEN} probes before"
            given_up.setdefault(finding.arm, replace(finding, trials=1, failed=1, detail=detail, broken=True))
    return given_up
