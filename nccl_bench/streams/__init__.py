"""Where work is queued, behind one protocol (``base``): ``cuda`` is torch.cuda's, ``cpu`` ordered queues on the CPU."""
