"""Tables of what exists: collectives, data types, timings, arms, devices, probes and routes. No torch."""
