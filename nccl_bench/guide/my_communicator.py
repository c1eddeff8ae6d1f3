"""An example of a user arm: torch.distributed over a group of its own, on the current stream."""

import torch.distributed as dist


class MyCommunicator:
    def __init__(self, group, device):  # a Gloo group of all ranks, a torch.device
        backend = "nccl" if device.type == "cuda" else "gloo"
        self.group = dist.new_group(dist.get_process_group_ranks(group), backend=backend)

    def all_reduce(self, tensor, op=dist.ReduceOp.SUM) -> None:
        dist.all_reduce(tensor, op, group=self.group)

    def all_gather(self, output, input):
        dist.all_gather_into_tensor(output, input, group=self.group)

    def close(self):
        dist.destroy_process_group(self.group)
