"""Starts the ranks of one launch on this node with torch's elastic launcher, which is torchrun, and waits for them."""

import importlib
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig as ElasticConfig
from torch.distributed.launcher.api import elastic_launch

from nccl_bench.config.variables import PRELOAD, read_at_start
from nccl_bench.errors import NodeLostError
from nccl_bench.launch import rendezvous
from nccl_bench.launch.config import module_command
from nccl_bench.launch.lifetime import end_with, signal_at_end_of_parent
from nccl_bench.launch.messages import AgentRequest, Exit, LaunchEnd, LaunchRequest

# torch's elastic launcher looks at the ranks this often.
_POLL_S = 0.05
# With this variable torch counts GPUs by NVML. Otherwise it starts CUDA, which then fails in forked processes.
_COUNT_BY_NVML = "PYTORCH_NVML_BASED_CUDA_CHECK"


def launch_ranks(agent: AgentRequest, request: LaunchRequest, port: int, life: int) -> int:
    """Start the ranks, wait until they end, and write the ``LaunchEnd``. Return 0 if every rank ended well, else 1.

    ``port`` is the port of node 0's store. The ranks end when the other end of the pipe ``life`` is closed.
    """
    by_user = _COUNT_BY_NVML in os.environ
    os.environ.setdefault(_COUNT_BY_NVML, "1")
    # All nodes have the same number of ranks, so torch's launcher can number the ranks without asking the other nodes.
    os.environ["TORCH_ELASTIC_WORKER_IDENTICAL"] = "1"
    config = ElasticConfig(
        min_nodes=agent.nnodes,
        max_nodes=agent.nnodes,
        nproc_per_node=request.nproc,
        run_id=f"launch-{request.number}",
        rdzv_backend=rendezvous.BACKEND,
        rdzv_endpoint=f"{agent.host}:{port}",
        rdzv_configs={"rank": agent.node_rank, "first": request.number == 0},
        max_restarts=0,
        monitor_interval=_POLL_S,
        # A fork of this process has torch already, and neither process has started CUDA.
        start_method="fork",
        logs_specs=DefaultLogsSpecs(log_dir=str(Path(request.scratch) / "logs"), redirects=Std.ALL),
    )
    # Logging is off, because torch imports its compiler to format the log of a failed rank. This takes seconds, and
    # `LaunchEnd` has the same facts.
    logging.disable()
    launch_end = LaunchEnd()
    try:
        elastic_launch(config, _run_rank)(request, life, by_user)
    except ChildFailedError as error:
        exits = (
            Exit(rank=rank, local_rank=each.local_rank, code=each.exitcode) for rank, each in error.failures.items()
        )
        launch_end = LaunchEnd(exits=tuple(exits))
    except NodeLostError as error:
        launch_end = LaunchEnd(lost_node=str(error))
    except Exception as error:  # noqa: BLE001 - the command reports whatever ended the launch
        sys.excepthook(*sys.exc_info())
        launch_end = LaunchEnd(error=str(error))
    launch_end.write(Path(request.scratch))
    return 0 if launch_end == LaunchEnd() else 1


def _run_rank(request: LaunchRequest, life: int, counts_by_nvml: bool) -> None:
    """Run the worker as one rank, in a process that was forked from this one."""
    signal_at_end_of_parent(signal.SIGKILL)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)  # remove the handlers of torch's launcher
    end_with(life)
    logging.disable(logging.NOTSET)
    if not counts_by_nvml:
        del os.environ[_COUNT_BY_NVML]
    local_rank = int(os.environ["LOCAL_RANK"])
    variables, python = request.variables[local_rank], request.pythons[local_rank]
    os.environ.update(variables)
    if python is None and not read_at_start(variables) and not torch.cuda._is_in_bad_fork():
        importlib.import_module(request.worker).main(request.spec)
        return
    command = module_command(request.worker, request.spec, python=python, lazy=PRELOAD in variables)
    code = subprocess.run(command, check=False).returncode
    if code < 0:
        os.kill(os.getpid(), -code)
    if code:
        os._exit(code)
