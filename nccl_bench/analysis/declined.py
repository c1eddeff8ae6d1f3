"""The cells that arms declined: an arm may refuse a message, for example because the message is too large for it."""

from collections import defaultdict
from collections.abc import Iterator

from nccl_bench.analysis.wording import case_name
from nccl_bench.catalog.arms import is_twin
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.sizes import format_size
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Samples, Status


def declined_cells(run: Run) -> Iterator[str]:
    """Yield a line for each arm and kind of case that the arm declined, with the sizes; twins are left out."""
    # Without configured placements, each arm chooses its placement. A declined call has no placement.
    placements = () if run.meta["config"].get("placements", ()) is None else None
    samples = run.samples
    declined = samples.arm.take(samples.status.equals(Status.DECLINED)).distinct()
    arms = [arm for arm in declined if not is_twin(arm)]
    groups: dict[tuple[str, str], list[Samples]] = defaultdict(list)
    for line in samples.take(samples.arm.equals(*arms)).lines():
        groups[line.arm, case_name(line.case, placements)].append(line)
    for (arm, name), lines in groups.items():
        timings: dict[str, list[Timing]] = defaultdict(list)
        for timing in dict.fromkeys(line.timing for line in lines):
            timings[_sizes_in_words([line for line in lines if line.timing is timing])].append(timing)
        reasons = "; ".join(dict.fromkeys(line.reason for line in lines if line.reason is not None))
        for sizes, of_sizes in timings.items():
            where = f" in {' and '.join(of_sizes)}" if len(timings) > 1 else ""
            if sizes:
                yield f"{arm} declines {name} {sizes}{where}: {reasons}"


def _sizes_in_words(lines: list[Samples]) -> str:
    """Return the declined sizes in words, as short as the other sizes allow; empty if no size was declined."""
    declined = sorted({line.case.size_bytes for line in lines if line.status is Status.DECLINED})
    taken = sorted({line.case.size_bytes for line in lines if line.status is not Status.DECLINED})
    if not declined:
        return ""
    if not taken:
        return "of every size"
    if taken[-1] < declined[0]:
        return f"from {format_size(declined[0])} on"
    if declined[-1] < taken[0]:
        return f"up to {format_size(declined[-1])}"
    return f"of {', '.join(map(format_size, declined))}"
