"""Transports run a collective on a given stream: ``nccl`` and ``nccl4py`` by libnccl, ``gloo`` by Gloo on the CPU."""
