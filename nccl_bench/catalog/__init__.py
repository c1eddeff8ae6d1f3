"""Tables of what exists: collectives, data types, timings, arms, devices, probes, routes. No torch."""
