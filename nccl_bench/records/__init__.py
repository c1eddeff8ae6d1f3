"""The files of a run: samples, settings and environment. Every report is made from these files only."""
