"""The findings of probes about arms, and the file where ranks and launcher collect them. Imports no torch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nccl_bench.plan.verification import ArmProbe

# An arm that broke in this many probes is not tried any more, because each broken probe costs another launch.
MOST_BROKEN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The finding of one probe about one arm, over all ranks."""

    arm: str  # the arm's name
    probe: str  # the probe's name
    trials: int  # the number of trials; 0 if the probe does not apply
    failed: int  # the number of trials that failed
    detail: str | None  # the error of the first failed trial, or the reason why no trial ran; None if all passed
    raced: int = 0  # the number of failed trials that only a race explains
    quiet: tuple[str, ...] = ()  # the places where no trial raced
    broken: bool = False  # True if an exception, crash or hang ended the probe; `failed` is then 1
    unmade: bool = False  # True if the probe did not begin, because the arm could not be made

    @classmethod
    def of_break(cls, arm_probe: ArmProbe, detail: str, *, unmade: bool = False) -> Finding:
        """Return the finding of a probe that broke. Set ``unmade`` if the arm could not be made."""
        return cls(
            arm=arm_probe.arm, probe=arm_probe.probe, trials=1, failed=1, detail=detail, broken=True, unmade=unmade
        )

    @property
    def arm_probe(self) -> ArmProbe:
        """The arm and the probe of this finding."""
        return ArmProbe(arm=self.arm, probe=self.probe)


def append_finding(path: Path, finding: Finding) -> None:
    """Remove a partial line that a killed process left, then append ``finding`` to the file."""
    complete, newline, partial = path.read_text(encoding="utf-8").rpartition("\n") if path.exists() else ("", "", "")
    if partial:
        path.write_text(complete + newline, encoding="utf-8")
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(finding)) + "\n")


def read_findings(path: Path) -> Sequence[Finding]:
    """Return the findings in the complete lines of the file, in the order of the file."""
    if not path.exists():
        return []
    *complete, _ = path.read_text(encoding="utf-8").split("\n")
    mappings = (json.loads(line) for line in complete)
    return [Finding(**mapping | {"quiet": tuple(mapping["quiet"])}) for mapping in mappings]


def find_given_up_arms(findings: Iterable[Finding]) -> Mapping[str, Finding]:
    """Return the arms that are not tried any more, each with the finding that its remaining probes get.

    An arm is given up if it broke in ``MOST_BROKEN`` probes, or if it could not be made.
    """
    given_up: dict[str, Finding] = {}
    broken = Counter[str]()
    for finding in findings:
        broken[finding.arm] += finding.broken
        if finding.unmade:
            given_up[finding.arm] = finding
        elif broken[finding.arm] >= MOST_BROKEN:
            detail = f"not tried: the arm hung or crashed in {MOST_BROKEN} earlier probes"
            given_up.setdefault(finding.arm, Finding.of_break(finding.arm_probe, detail))
    return given_up
