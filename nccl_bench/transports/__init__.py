"""Transports issue a collective on a given stream: ``nccl`` and ``nccl4py`` through libnccl, ``gloo`` on the CPU."""
