"""The words of reports for verdicts. Records and JSON have the names of `Verdict`."""

from collections.abc import Mapping

from nccl_bench.analysis.judging import OpenReason
from nccl_bench.analysis.statistics import Verdict
from nccl_bench.analysis.wording import format_share

VERDICT_WORDS: Mapping[Verdict | None, str] = {
    Verdict.FASTER: "faster",
    Verdict.SLOWER: "slower",
    Verdict.EQUIVALENT: "same",
    Verdict.INCONCLUSIVE: "open",
    None: "none",
}


def verdict_text(verdict: Verdict | None, reason: OpenReason | None, threshold: float) -> str:
    """Return a verdict in words, an open one with its reason: faster, same, open: within noise."""
    word = VERDICT_WORDS[verdict]
    if reason is None:
        return word
    return f"{word}: {f'may be under {format_share(threshold)}' if reason is OpenReason.BELOW_THRESHOLD else reason}"
