"""Verification of stream order by experiment: probes, what they work with, and the judgement of what they find.

``findings``, ``judgement`` and ``spec`` load no torch, since the launcher and the reports use them too.
"""
