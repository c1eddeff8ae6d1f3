"""Streams queue work. ``base`` is their protocol; ``cuda`` has torch.cuda's streams, ``cpu`` has queues on the CPU."""
