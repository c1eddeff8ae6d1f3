"""The pattern of a failure: on which streams, with which operations and sizes a probe fails, and what that means.

A pattern is claimed only if the trials show it:

- A trial that was right counts only where the detector fails the same probe. Elsewhere the probe sees no race.
- If chance decided which trials fail, the failures would look like the pattern in fewer than one case in 10,000.
- Each part of the pattern (the streams, the operations, the sizes) must be needed: if that part did not matter, the
  failures would fall like this in fewer than one case in 50.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from math import comb

from nccl_bench.analysis.wording import counted, size_with_unit
from nccl_bench.catalog.probes import PROBES, Place
from nccl_bench.verify.agreement import describe_lacks, name_lacks
from nccl_bench.verify.findings import Finding, TrialGroup
from nccl_bench.verify.judgement import ProbeStatus, Verification

MOST_BY_CHANCE = 1e-4
MOST_BY_CHANCE_OF_PART = 0.02
# With more values than this, the text says "every other operation" if the other side has fewer.
_MOST_LISTED = 2

# Probe -> what an arm lacks if only a race explains the failures of the probe.
_MISSING = {"producer": "the fork", "consumer": "the join"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """The pattern of the failures of one finding."""

    where: str  # where the arm is wrong and where it is right; empty if it is wrong everywhere
    evidence: str  # the numbers of trials that show it
    cause: str  # the known cause; empty if none is known


# (the probe that fails alone, the probes that pass, what that means)
_ALONE = (
    ("capture", ("producer", "consumer"), "only captured calls are wrong: the same calls keep stream order eagerly"),
    (
        "many",
        ("producer", "consumer"),
        "only some calls in a long series are wrong, for example every tenth: the other experiments make a few calls "
        "at a time, and those are right",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A part of a pattern: a property of trials that can separate the wrong trials from the right ones."""

    value: Callable[[TrialGroup], object]  # the property of a group of trials
    text: Callable[[Collection[object]], str]  # values as a phrase, such as 'on the default stream'
    others: str  # all values but the named ones, in words
    # The conditions on the (wrong, right) values -> the cause. The first condition that holds counts.
    causes: tuple[tuple[Callable[[Collection[object], Collection[object]], bool], str], ...]


def _sizes(values: Collection[object]) -> str:
    return f"at {_listed([size_with_unit(value) for value in sorted(v for v in values if isinstance(v, int))])}"


def _listed(words: Sequence[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _is_larger(wrong: Collection[object], right: Collection[object]) -> bool:
    return min(v for v in wrong if isinstance(v, int)) > max(v for v in right if isinstance(v, int))


_PARTS = (
    _Part(
        value=lambda group: group.place,
        text=lambda values: f"on the {_listed([place for place in Place if place in values])}",
        others="on every other stream",
        causes=(
            (lambda _wrong, right: set(right) == {Place.DEFAULT}, "{missing} is with the default stream only"),
            (lambda wrong, _right: set(wrong) == {Place.DEFAULT}, "calls on the default stream lack {missing}"),
            (lambda _wrong, _right: True, "calls on some streams lack {missing}"),
        ),
    ),
    _Part(
        value=lambda group: group.operation,
        text=lambda values: f"with {_listed(sorted(map(str, values)))}",
        others="with every other operation",
        causes=((lambda wrong, _right: len(wrong) == 1, "only {wrong} lacks {missing}"),),
    ),
    _Part(
        value=lambda group: group.in_graph_mode,
        text=lambda values: "within graph_capture()" if True in values else "outside of graph_capture()",
        others="",
        causes=(
            (lambda wrong, _right: True in wrong, "only calls within graph_capture() lack {missing}"),
            (lambda _wrong, _right: True, "only calls outside of graph_capture() lack {missing}"),
        ),
    ),
    _Part(
        value=lambda group: group.size_bytes,
        text=_sizes,
        others="at every other size",
        causes=(
            (_is_larger, "only large messages lack {missing}"),
            (lambda wrong, right: _is_larger(right, wrong), "only small messages lack {missing}"),
        ),
    ),
)


def find_arm_cause(verification: Verification, arm: str) -> str:
    """Return what it means that only one probe of order fails for ``arm``; empty if this shows nothing."""
    statuses = {each.probe: each.status for each in verification.judgements if each.arm == arm}
    failed = {
        probe for probe, status in statuses.items() if status is ProbeStatus.FAIL and not PROBES[probe].by_construction
    }
    for probe, passing, cause in _ALONE:
        if failed == {probe} and all(statuses.get(each) is ProbeStatus.PASS for each in passing):
            return cause
    return ""


def find_pattern(finding: Finding, detector: Finding | None) -> Pattern | None:
    """Return the pattern of the failures of ``finding``; ``None`` if its trials show none.

    ``detector`` is the finding of the same probe about the detector; ``None`` if there is none.
    """
    groups = [group for group in finding.groups if group.failed or _can_fail(group, detector)]
    # Records of 0.1.0 have no groups.
    failed, trials = (
        (sum(each.failed for each in groups), _trials(groups)) if groups else (finding.failed, finding.trials)
    )
    if not failed:
        return None
    of_probe = name_lacks(finding) or _MISSING.get(finding.probe, "the order")
    missing = of_probe if finding.raced == finding.failed else None
    if failed == trials:
        seen = "" if len(groups) == len(finding.groups) else " in which the detector fails too"
        cause = f"every call lacks {missing}" if missing else ""
        # A trial of a probe by construction fails if one of its calls lacks a half.
        if {finding.unforked_calls, finding.unjoined_calls} - {0, finding.watched_calls}:
            cause = describe_lacks(finding)
        return Pattern(where="", evidence=f"all {counted(failed, 'trial')}{seen} failed", cause=cause)
    parts = [part for part in _PARTS if _is_needed(part, groups)]
    box = _box(parts, groups)
    if not parts or _chance(box, groups) > MOST_BY_CHANCE:
        return None
    texts = [_texts(part, groups) for part in parts]
    cause = ""
    if missing:
        cause = _cause(parts[0], groups, missing) if len(parts) == 1 else f"only these calls lack {missing}"
    right = texts[0][1] if len(parts) == 1 else "in all other trials"
    return Pattern(
        where=f"right {right}, wrong {' '.join(wrong for wrong, _ in texts)}",
        evidence=f"{failed} of {counted(_trials(box), 'trial')} failed there, none of {_trials(groups) - _trials(box)} "
        "elsewhere",
        cause=cause,
    )


def _values(part: _Part, groups: Sequence[TrialGroup]) -> tuple[set[object], set[object]]:
    """Return the values of the groups that failed, and the other values."""
    wrong = {part.value(group) for group in groups if group.failed}
    return wrong, {part.value(group) for group in groups} - wrong


def _texts(part: _Part, groups: Sequence[TrialGroup]) -> tuple[str, str]:
    """Return the wrong values and the right values in words."""
    wrong, right = _values(part, groups)
    many = [len(values) > max(_MOST_LISTED, len(opposite)) for values, opposite in ((wrong, right), (right, wrong))]
    return (part.others if many[0] else part.text(wrong)), (part.others if many[1] else part.text(right))


def _cause(part: _Part, groups: Sequence[TrialGroup], missing: str) -> str:
    wrong, right = _values(part, groups)
    cause = next((text for condition, text in part.causes if condition(wrong, right)), "")
    return cause.format(missing=missing, wrong=_listed(sorted(map(str, wrong))))


def _can_fail(group: TrialGroup, detector: Finding | None) -> bool:
    """Return whether the detector failed on the same stream at the same size; True without a detector to compare."""
    if detector is None or not detector.groups:
        return True
    key = (group.place, group.size_bytes)
    return any(each.failed for each in detector.groups if (each.place, each.size_bytes) == key)


def _is_needed(part: _Part, groups: Sequence[TrialGroup]) -> bool:
    """Return whether the failures would rarely fall like this by chance if ``part`` did not matter."""
    without = [group for group in groups if _in_box(group, [each for each in _PARTS if each is not part], groups)]
    box = _box(_PARTS, groups)
    return len(without) > len(box) and _chance(box, without) <= MOST_BY_CHANCE_OF_PART


def _box(parts: Sequence[_Part], groups: Sequence[TrialGroup]) -> list[TrialGroup]:
    """Return the groups that look like failed groups: for each of ``parts``, a failed group has the same value."""
    return [group for group in groups if _in_box(group, parts, groups)]


def _in_box(group: TrialGroup, parts: Sequence[_Part], groups: Sequence[TrialGroup]) -> bool:
    return all(part.value(group) in {part.value(each) for each in groups if each.failed} for part in parts)


def _chance(box: Sequence[TrialGroup], groups: Sequence[TrialGroup]) -> float:
    """Return the probability that all failures fall into ``box`` if they fall anywhere in ``groups`` by chance."""
    failed = sum(group.failed for group in groups)
    return comb(_trials(box), failed) / comb(_trials(groups), failed)


def _trials(groups: Sequence[TrialGroup]) -> int:
    return sum(group.trials for group in groups)
