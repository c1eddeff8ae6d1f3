"""Figures about the statistics themselves, measured on real ranks: false alarms and power; and how long a comparison of
large runs takes. Not part of the suite.

python -m tests.experiments.false_alarms --device cpu --runs 40
python -m tests.experiments.power
python -m tests.experiments.compare_speed
"""
