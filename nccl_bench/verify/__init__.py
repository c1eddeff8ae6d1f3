"""Verification of stream order by experiment: the probes, their tools, and the judgement of their findings."""
