"""Differences between experiment and construction about an arm: which to believe, and why. Imports no torch."""

from nccl_bench.catalog.probes import PROBES
from nccl_bench.verify.findings import Finding
from nccl_bench.verify.judgement import ProbeStatus, Verification


def describe_lacks(finding: Finding) -> str:
    """Return how many calls lack the fork, and how many lack the join; empty if no call lacks a half."""
    return ", ".join(f"no {half} in {calls:,} of {finding.watched_calls:,} calls" for half, calls in _lacks(finding))


def name_lacks(finding: Finding) -> str:
    """Return the half of the order that calls lack, or both halves; empty if no call lacks a half."""
    return " and ".join(f"the {half}" for half, _ in _lacks(finding))


def _lacks(finding: Finding) -> list[tuple[str, int]]:
    """Return each half of the order that calls lack by construction, with the number of these calls."""
    halves = (("fork", finding.unforked_calls), ("join", finding.unjoined_calls))
    return [(half, calls) for half, calls in halves if calls]


def describe_difference(verification: Verification, arm: str) -> str:
    """Return where experiment and construction differ about ``arm``, and which to believe; empty if they agree."""
    judged = {
        each.probe: (each.status, each.finding)
        for each in verification.judgements
        if each.arm == arm and each.finding and not each.finding.broken
    }
    constructed = next((probe for probe in judged if PROBES[probe].by_construction), None)
    if constructed is None:
        return ""
    status, finding = judged[constructed]
    failing = {probe: of for probe, (each, of) in judged.items() if each is ProbeStatus.FAIL and PROBES[probe].races}
    unseen, unexplained = [], []
    # Each of these experiments tests one half of the order.
    for probe, lacking in (("producer", finding.unforked_calls), ("consumer", finding.unjoined_calls)):
        if lacking and probe in judged and judged[probe][0] is ProbeStatus.PASS:
            unseen.append(probe)
        if not lacking and probe in failing and failing[probe].raced:
            unexplained.append(probe)
        if probe in failing and not failing[probe].raced:
            return ""  # The results are wrong in every order, so they show nothing about order.
    if status is ProbeStatus.PASS:
        unexplained = list(failing)
    texts = []
    if unseen:
        texts.append(
            f"Believe {constructed}, although {' and '.join(unseen)} passed: an experiment shows a race only if calls "
            "overlap, and it makes few of them"
        )
    if unexplained:
        texts.append(
            f"Believe {' and '.join(unexplained)}, although {constructed} saw no such race: results were wrong, and "
            "the audit does not see every launch"
        )
    return ". ".join(texts)
