"""What each timing is called in a title, and the question it answers."""

from __future__ import annotations

from collections.abc import Mapping

from nccl_bench.catalog.timings import Timing

TIMINGS: Mapping[Timing, tuple[str, str]] = {
    Timing.EAGER: ("eager latency", "Back-to-back calls from an empty queue, launch cost included."),
    Timing.GATED: ("gated latency", "What the device spends, launch cost excluded."),
    Timing.GRAPH: ("graph latency", "One operation inside a captured CUDA graph."),
    Timing.ENQUEUE: ("enqueue cost", "What one call costs the CPU thread."),
}
