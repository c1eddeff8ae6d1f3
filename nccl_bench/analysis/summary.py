"""The summary of a run: a table with one row per case, arm and timing.

Times are medians, because one bad sample can spoil a mean. A ratio compares times of one round, because the speed
of a machine drifts. Within minutes, the speed can change by more than the difference between two arms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, get_type_hints

import msgspec
from msgspec import Meta

from nccl_bench.catalog.timings import Timing


# No dataclass: msgspec makes a row in a third of the time, and the garbage collector need not track it.
class Row(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A row of the summary; a value that was not measured or does not apply is ``None``, never 0."""

    scenario: Annotated[str | None, Meta(description="the scenario around the collective")] = None
    collective: Annotated[str | None, Meta(description="the collective")] = None
    dtype: Annotated[str | None, Meta(description="data type of the elements")] = None
    redop: Annotated[str | None, Meta(description="reduction; absent if nothing is reduced")] = None
    placement: Annotated[str | None, Meta(description="placement of the case: in-place, out-of-place or returned")] = (
        None
    )
    root: Annotated[int | None, Meta(description="root rank; absent if there is none")] = None
    size_bytes: Annotated[int | None, Meta(description="message size as nccl-tests counts it")] = None
    count: Annotated[int | None, Meta(description="elements of one block, as nccl-tests counts them")] = None
    hidden: Annotated[int | None, Meta(description="elements of a token; only in the scenario chain")] = None
    layers: Annotated[int | None, Meta(description="number of layers; only in the scenario chain")] = None
    delay_us: Annotated[int | None, Meta(description="requested delay of the late rank; only in skew")] = None
    streams: Annotated[
        int | None, Meta(description="number of streams of two communicators; only in the scenario contended")
    ] = None
    world_size: Annotated[int | None, Meta(description="number of ranks")] = None
    arm: Annotated[str | None, Meta(description="the arm; absent for a skipped case")] = None
    arm_placement: Annotated[
        str | None, Meta(description="placement in which the arm was called; absent without times of the arm")
    ] = None
    timing: Annotated[
        str | None, Meta(description=f"{', '.join(Timing)}; absent if the case was skipped, hung or crashed")
    ] = None
    status: Annotated[str | None, Meta(description="ok, wrong, declined, skipped, hang or crash")] = None
    reason: Annotated[str | None, Meta(description="how the arm declined the case, or why the case was skipped")] = None
    ops_per_batch: Annotated[int | None, Meta(description="operations in one timed batch")] = None
    launches: Annotated[int | None, Meta(description="number of launches with a time; absent if there is no time")] = (
        None
    )
    rounds: Annotated[int | None, Meta(description="number of rounds with a time, in all launches together")] = None
    discarded: Annotated[
        int | None, Meta(description="batches discarded because the gate opened before all calls were queued")
    ] = None
    time_us: Annotated[float | None, Meta(description="time per operation, maximum over ranks: median over rounds")] = (
        None
    )
    min_us: Annotated[float | None, Meta(description="time per operation: minimum over rounds")] = None
    max_us: Annotated[float | None, Meta(description="time per operation: maximum over rounds")] = None
    q1_us: Annotated[float | None, Meta(description="time per operation: first quartile over rounds")] = None
    q3_us: Annotated[float | None, Meta(description="time per operation: third quartile over rounds")] = None
    algbw_gb_s: Annotated[
        float | None,
        Meta(
            description="size / time, 10^9 bytes per second; absent for a timing that moves no bytes, such as enqueue"
        ),
    ] = None
    busbw_gb_s: Annotated[float | None, Meta(description="algbw times the collective's bus factor")] = None
    per_token_us: Annotated[
        float | None, Meta(description="time of all layers divided by the number of tokens; only in the scenario chain")
    ] = None
    measured_delay_us: Annotated[
        float | None, Meta(description="delay of the late rank, by its device: median over rounds; only in skew")
    ] = None
    transfer_us: Annotated[
        float | None, Meta(description="time of the late rank, which is the transfer: median over rounds; only in skew")
    ] = None
    wait_us: Annotated[
        float | None, Meta(description="time_us minus the late rank's time: median over rounds; only in skew")
    ] = None
    baseline: Annotated[str | None, Meta(description="the arm whose time is the denominator of ratio")] = None
    ratio: Annotated[
        float | None,
        Meta(
            description="time / baseline's time in the same round: median, of several launches the geometric mean of "
            "their medians; absent for the baseline"
        ),
    ] = None
    ratio_low: Annotated[
        float | None,
        Meta(description="lower end of the ratio's interval; absent if there are too few rounds for an interval"),
    ] = None
    ratio_high: Annotated[float | None, Meta(description="upper end of the ratio's interval")] = None
    verdict: Annotated[
        str | None,
        Meta(
            description="faster, slower, equivalent or inconclusive; with 95 % confidence no verdict of a run is wrong"
        ),
    ] = None
    noise_floor: Annotated[
        float | None, Meta(description="the noise floor; only a larger difference can be faster or slower")
    ] = None
    registered: Annotated[
        str | None,
        Meta(description="whether NCCL had the buffers registered: yes, no, partly or unknown; absent without NCCL"),
    ] = None
    algorithm: Annotated[str | None, Meta(description="NCCL's algorithm, such as RING; only with --tuning")] = None
    protocol: Annotated[str | None, Meta(description="NCCL's protocol, such as LL")] = None
    special_kernel: Annotated[
        str | None, Meta(description="the symmetric kernel or the copy engine that ran instead of an algorithm")
    ] = None
    channels: Annotated[int | None, Meta(description="the most channels of NCCL that a call used")] = None
    communicator_variance: Annotated[
        float | None,
        Meta(description="standard deviation of the ratio from launch to launch, as a share; absent with one launch"),
    ] = None
    wrong: Annotated[
        int | None, Meta(description="wrong elements, over all ranks and checks; absent if nothing was checked")
    ] = None
    tolerance_ulp: Annotated[
        int | None, Meta(description="the error that the check allows, in ulp; 0 means equality")
    ] = None
    rank_spread_us: Annotated[
        float | None, Meta(description="slowest rank's time minus fastest rank's: median over rounds")
    ] = None
    slowest_rank: Annotated[int | None, Meta(description="the rank that was slowest in most rounds")] = None
    slowest_rank_share: Annotated[
        float | None, Meta(description="the share of rounds in which slowest_rank was slowest")
    ] = None
    p50_us: Annotated[
        float | None, Meta(description="single operations, with events between them: median; only with --per-iteration")
    ] = None
    p90_us: Annotated[
        float | None, Meta(description="single operations, with events between them: 90th percentile")
    ] = None
    p99_us: Annotated[
        float | None, Meta(description="single operations, with events between them: 99th percentile")
    ] = None
    per_iteration_cost_us: Annotated[
        float | None, Meta(description="time that events add to an operation; p50 to p99 include it")
    ] = None
    product: Annotated[
        str | None, Meta(description="sides of the matrix product beside the collective; only in the scenario overlap")
    ] = None
    product_us: Annotated[float | None, Meta(description="product alone: median over the rounds of the parts")] = None
    collective_us: Annotated[float | None, Meta(description="collective alone: median over these rounds")] = None
    sequence_us: Annotated[float | None, Meta(description="product and then collective: median over these rounds")] = (
        None
    )
    together_us: Annotated[float | None, Meta(description="collective beside product: median over these rounds")] = None
    hidden_share: Annotated[
        float | None,
        Meta(description="share of the collective's time that is hidden: (sequence - together) / (sequence - product)"),
    ] = None
    product_slowdown: Annotated[
        float | None,
        Meta(description="growth of the product's time from in sequence to together, as a share"),
    ] = None
    collective_slowdown: Annotated[
        float | None,
        Meta(
            description="growth of the collective's time from in sequence to together, as a share; absent if a library "
            "hides its stream"
        ),
    ] = None

    stream_us: Annotated[float | None, Meta(description="cost split: the fetch of the stream, on the CPU")] = None
    fork_us: Annotated[float | None, Meta(description="cost split: the fork to the private stream")] = None
    call_us: Annotated[float | None, Meta(description="cost split: the call of the library alone")] = None
    join_us: Annotated[float | None, Meta(description="cost split: the join of the private stream")] = None
    graph_nodes: Annotated[int | None, Meta(description="nodes of a CUDA graph of one call, with --cost-split")] = None
    sm_clock_mhz: Annotated[
        int | None, Meta(description="lowest SM clock of a GPU, right after the timing; absent without GPUs")
    ] = None
    memory_clock_mhz: Annotated[int | None, Meta(description="lowest memory clock of a GPU")] = None
    temperature_c: Annotated[int | None, Meta(description="highest temperature of a GPU, degrees Celsius")] = None
    power_w: Annotated[
        float | None, Meta(description="highest power of a GPU; recent GPUs report the average over a second")
    ] = None
    throttled: Annotated[
        str | None, Meta(description="the reasons that lowered the clocks of a GPU during the timing; absent: none")
    ] = None
    throttled_share: Annotated[
        float | None,
        Meta(
            description="largest share of the time for which a GPU was throttled; absent if the driver does not count "
            "the time"
        ),
    ] = None
    throttled_rank: Annotated[int | None, Meta(description="the lowest rank whose GPU was throttled")] = None
    other_process: Annotated[
        int | None, Meta(description="id of a process that is not of this run and had a GPU of the run open")
    ] = None
    other_process_rank: Annotated[int | None, Meta(description="the lowest rank with such a process on its GPU")] = None

    def present(self) -> dict[str, object]:
        """Return the columns that have a value."""
        # `asdict` would be slower, because it makes deep copies of all values.
        return {name: value for name in COLUMNS if (value := getattr(self, name)) is not None}


_HINTS: Mapping[str, Any] = get_type_hints(Row, include_extras=True)
# The meaning of each column of summary.csv, in order.
COLUMNS: Mapping[str, str] = {name: hint.__metadata__[0].description for name, hint in _HINTS.items()}
