"""How a collective reaches the wire, given a stream: ``nccl`` through libnccl, ``gloo`` on the CPU."""
