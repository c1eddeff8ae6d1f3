"""``run --dry-run``: the checks of a run, then its plan."""

from nccl_bench.cli.output import OutputConfig
from nccl_bench.cli.recorded_run import try_record
from nccl_bench.config.run import RunConfig
from nccl_bench.errors import SetupError
from nccl_bench.launch.hardware import free_memory_bytes
from nccl_bench.plan.cases import make_plan
from nccl_bench.report.dry_run import plan_text
from nccl_bench.report.escaping import visible


def show_plan(config: RunConfig, world_size: int, ranks_per_node: int, gpus: int, output: OutputConfig | None) -> None:
    """Print the plan of a run on a node with ``gpus`` GPUs. Raise what the run would raise before its ranks start.

    ``output`` is ``None`` if this process writes no record.
    """
    plan = make_plan(config, world_size)
    if output is not None:
        try_record(config, plan, output)
    memory = free_memory_bytes(config.device_spec, ranks_per_node)
    print(visible(plan_text(config, plan, world_size, memory)), end="", flush=True)
    if config.device_spec.has_gpus and not gpus:
        raise SetupError(
            "no GPU is visible on this machine, so the run would end here: make one visible, or give --device cpu"
        )
