"""``nccl-bench doctor``: what this machine has, and what will go wrong."""

import os
import sys
from typing import Annotated

from nccl_bench.cli.launching import DEFAULT_CPU_RANKS
from nccl_bench.cli.messages import exit_with, print_message
from nccl_bench.cli.options import Anonymous, format_option, width_option
from nccl_bench.report import NARROWEST_EXAMINATION, Format

_FORMATS = (Format.TERMINAL, Format.MARKDOWN, Format.JSON)


def doctor(
    format: Annotated[Format, format_option(_FORMATS)] = Format.TERMINAL,
    width: Annotated[int | None, width_option(NARROWEST_EXAMINATION)] = None,
    anonymous: Anonymous = False,
) -> None:
    """Examine this machine: what it has, what stops a benchmark, what changes its figures, and what helps.

    Nothing is measured or changed. Exit code 0: nothing stops a benchmark; 3: something does.
    """
    from nccl_bench.doctor.examination import examine
    from nccl_bench.doctor.machine import Machine
    from nccl_bench.doctor.torch_facts import begin_torch
    from nccl_bench.launch.config import module_command
    from nccl_bench.launch.hardware import gpu_count
    from nccl_bench.records.anonymity import Aliases
    from nccl_bench.records.nvml import open_nvml
    from nccl_bench.report.doctor import reports

    # Open the driver before torch starts: this can take seconds, and GPUs are examined before torch uses them.
    nvml = open_nvml()
    wait_for_torch = begin_torch(module_command("nccl_bench.doctor.torch_process"), os.environ)

    print_message("examining this machine; a process imports torch meanwhile, which takes some seconds")
    ranks = gpu_count(os.environ) or DEFAULT_CPU_RANKS
    examination = examine(Machine(nvml=nvml, ranks=ranks, torch=wait_for_torch))
    examination = examination.anonymous(Aliases()) if anonymous else examination
    print(reports(sys.stdout, width)[format](examination), end="")
    exit_with(examination.exit_code)
