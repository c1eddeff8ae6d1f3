"""The analysis of runs: one ``Analysis`` holds all that the reports and ``--fail-on`` need."""
