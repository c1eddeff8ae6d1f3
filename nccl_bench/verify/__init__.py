"""Verification of stream order by experiment: the probes, their tools, and the judgement of their findings.

``findings``, ``judgement`` and ``spec`` load no torch, since the launcher and the reports use them too.
"""
