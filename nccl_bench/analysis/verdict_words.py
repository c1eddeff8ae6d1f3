"""The words of reports for verdicts. Records and JSON have the names of `Verdict`."""

from collections.abc import Mapping

from nccl_bench.analysis.bands import Band
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
# Reason -> why a comparison or a step time is open, in words. Lines of the headline are in this order.
WHY_OPEN: Mapping[OpenReason | None, str] = {
    OpenReason.BELOW_THRESHOLD: "different, but not surely by {threshold}",
    OpenReason.WITHIN_NOISE: "within noise",
    OpenReason.TOO_FEW_ROUNDS: "too few rounds",
    OpenReason.NO_TWIN: "no twin was measured, so the noise is unknown",
    OpenReason.DIFFERENT_PROCESSES: "the arms ran in different processes, whose CPU speeds differ",
    OpenReason.ONE_LAUNCH: "only one launch has times of both arms",
    OpenReason.SHARED_ARM_MOVED: "not comparable, {moved} changed",
    None: "no verdict, because the variation of the times is unknown",
}
# The reasons whose names do not explain them.
_REASON_WORDS: Mapping[OpenReason, str] = {OpenReason.SHARED_ARM_MOVED: "the machine changed"}


def verdict_text(band: Band) -> str:
    """Return the verdict of ``band`` in words, such as faster or same; an open verdict has its reason."""
    word = VERDICT_WORDS[band.verdict]
    if band.reason is None:
        return word
    if band.reason is not OpenReason.BELOW_THRESHOLD:
        return f"{word}: {_REASON_WORDS.get(band.reason, band.reason)}"
    return f"{word}: {WHY_OPEN[band.reason].format(threshold=format_share(band.threshold))}"
