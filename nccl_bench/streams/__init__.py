"""Streams queue work, behind one protocol (``base``): ``cuda`` has torch.cuda's, ``cpu`` has queues on the CPU."""
