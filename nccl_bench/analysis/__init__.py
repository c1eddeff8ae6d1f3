"""The analysis of runs: one ``Analysis`` holds all that every report and the gate need."""
