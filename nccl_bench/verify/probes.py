"""The table of probe functions."""

from collections.abc import Callable, Mapping

from nccl_bench.verify.async_gather import async_gather
from nccl_bench.verify.capture import capture
from nccl_bench.verify.lifetime import lifetime
from nccl_bench.verify.many import many
from nccl_bench.verify.order import order
from nccl_bench.verify.ordering import allocator, consumer, producer
from nccl_bench.verify.rig import Rig
from nccl_bench.verify.state import state

# A probe tries its exchanges through the rig, which records every trial. Every rank must do the same trials.
PROBE_FUNCTIONS: Mapping[str, Callable[[Rig], None]] = {
    "order": order,
    "producer": producer,
    "consumer": consumer,
    "allocator": allocator,
    "state": state,
    "async": async_gather,
    "many": many,
    "lifetime": lifetime,
    "capture": capture,
}
