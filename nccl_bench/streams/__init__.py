"""Streams queue work: ``base`` has their protocol, ``cuda`` the streams of torch.cuda, ``cpu`` queues on the CPU."""
