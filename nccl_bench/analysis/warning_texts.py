"""The texts of the warnings that an analysis has about a run."""

from enum import StrEnum


class WarningText(StrEnum):
    """The texts of all warnings. A word in braces stands for a value of the run."""

    DISCARDED = (
        "Batches whose gate opened too early were discarded in {cells}, most for {worst} ({discarded}). Other batches "
        "are sound; a cell marked DISCARDED has none. The usual cause is a busy CPU.{fewer}"
    )
    RANK_SPREAD = (
        "Ranks differ by more than {limit} of the time in {cells}, most for {worst}: {spread} of {time} us, and rank "
        "{rank} was slowest in {share:.0%} of the rounds. The slowest rank sets the time, so one slow GPU or busy CPU "
        "spoils every figure. If more --rounds show the same rank again, check its clocks and its CPU affinity."
    )
    NOISE = (
        "Rounds differ: the interquartile range is more than {limit} of the median in {cells}, most for {worst}: "
        "{first} to {third} us, median {time} us. Ratios there are less exact. The usual cause is other work on the "
        "machine{normal}. More --rounds help."
    )
    TWO_SPEEDS = (
        "Rounds differ by more than {limit} in {cells}, and in {number} of them they come in two speeds, most clearly "
        "for {worst}: {fast} and {slow} us. The usual cause is a CPU that changes its speed. Within one "
        "run, ratios stand: they compare times of the same round. For steady times, see nccl-bench doctor."
    )
    THROTTLED = (
        "A GPU lowered its clocks in {cells}, most for {worst}: {reasons} on the GPU of rank {rank} ({sensors}). These "
        "figures are those of a slower GPU. {remedies}. Then measure again."
    )
    OTHER_PROCESS = (
        "Another process used a GPU of the run in {cells}, for example {worst}: process {process} on the GPU of rank "
        "{rank}. While it works, the figures are slower and less exact. End this process or choose other GPUs "
        "(CUDA_VISIBLE_DEVICES), then measure again."
    )
    TOLERANCE = (
        "Checked with a tolerance, not for equality: {cells}; the largest tolerance is {ulp} ulp for {worst}. These "
        "results are rounded, so an error within the tolerance is not detected. --op min,max is exact in every dtype."
    )
    OTHER_PRODUCTS = (
        "The runs have different matrix products in {cases}, for example {worst}: {products}. So the arms are not "
        "the only difference between these cases. Measure all runs with the same --product."
    )
    NOT_CHECKED = "Not checked: {cells}, for example {worst}. An arm could be fast and wrong. Measure with --check 1."
    SAME_PATH = (
        "{candidate} and {baseline} run the same path in {where}: {path}. The device does the same for both, "
        "so the two times can differ only by host time and noise."
    )
    TWO_LIBRARIES = "A second libnccl is loaded: {others}. {callers} Leave out --nccl-library{or_processes}."
    UNREGISTERED = (
        "{how} registration is unavailable on this machine: NCCL returned a null handle to {arms}, so the times are "
        "for unregistered memory. Measure with --register none, or find the reason with --env NCCL_DEBUG=INFO."
    )
    BUFFERS_UNREGISTERED = (
        "NCCL did not have the buffers registered in {cells}, for example {worst}. On 2x H200, registered buffers "
        "saved 14 to 26 % of the time of all_gather, all_to_all and send_recv from {least} on. Between processes NCCL "
        "cannot register memory of torch's allocator. In graphs, --memory nccl or --env NCCL_LEGACY_CUDA_REGISTER=1 "
        "lets NCCL register them; in all calls, --register local does. An engine without such a setting has the times "
        "above."
    )
    SAME_OBJECT = (
        "{baseline} is a function, or an object that existed before nccl-bench loaded it. Its twin is the same object, "
        "so the noise floor contains no communicator variance. Give a class, or a function that makes a communicator."
    )
    UNREAD = (
        "Variables without effect: {variables}. The libnccl in use ({library}, {version}) does not know them. Correct "
        "the spelling, or use a newer NCCL (--nccl-library)."
    )
    IMPORTED_EVENTS = (
        "{tool} put events between operations (its option {option}). All times in {cells} include the "
        "cost of these events. Do not compare these times with times without events: measure again without events."
    )
    CARRY_OVER = (
        "{arm} is {effect} {direction} right after {predecessor} than right after other arms, in {where}{others}. All "
        "arms follow each other equally often, but a ratio then depends on which arms are measured beside it. Measure "
        "without {predecessor} (--arms), and see whether the ratios stay."
    )
    TWIN_DIFFERS = (
        "The twin of {baseline}, the same communicator made again, is {verdict} in {cells}, most {worst}: {ratio}. New "
        "launches do not average that out, so a difference as large as this need not come from the arms."
    )
    TWIN_STEP_DIFFERS = (
        "The twin of {baseline}, the same communicator made again, is {verdict} in its step time: {change}. New "
        "launches do not average that out, so a difference as large as this need not come from the arms."
    )
    PER_ITERATION = (
        "Events between operations cost up to {cost} us each ({worst}), so single operations look slower than the "
        "same operations in a batch. Compare arms by the times of batches, or leave out --per-iteration."
    )
