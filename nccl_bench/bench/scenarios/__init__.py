"""The work around the collective, which makes the timed calls: a module for each scenario, behind one protocol."""
