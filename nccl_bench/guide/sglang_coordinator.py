"""SGLang's own GroupCoordinator as a user arm, from 0.5.9 (before its refactor) or 0.5.10 (after it)."""

import torch
import torch.distributed as dist
from sglang.srt.distributed import parallel_state


def make(group, device):
    """Return the coordinator of a tensor-parallel group, as SGLang makes it, with NCCL as its only fast path."""
    return parallel_state.init_model_parallel_group(
        group_ranks=[dist.get_process_group_ranks(group)],
        local_rank=device.index or 0,
        backend="nccl" if device.type == "cuda" else "gloo",
        use_pynccl=device.type == "cuda",
        use_custom_allreduce=False,
        use_mscclpp_allreduce=False,
        use_torch_symm_mem_allreduce=False,
        # Its operators find it by this name. Both versions register the same operators, so a name of its own lets a
        # call fail that reaches the other version. nccl-bench then gives each version its own processes.
        group_name=parallel_state.__file__,
    )


class AsyncGather:
    """The coordinator's all-gather for context parallelism, on a stream that the caller forks and joins."""

    def __init__(self, group, device):
        self.coordinator = make(group, device)
        # While PyNccl is off, the coordinator gathers on the current stream.
        self.coordinator.pynccl_comm.disabled = False
        self.stream = torch.cuda.Stream(device)

    def all_gather(self, output, input):
        self.coordinator.cp_all_gather_into_tensor_async(output, input, self.stream)

    def cp_all_gather_into_tensor_async(self, output, input, stream):
        self.coordinator.cp_all_gather_into_tensor_async(output, input, stream)

    def destroy(self):
        self.coordinator.destroy()
