"""The files of a run, from which alone every report is made: its lines, its directory, its environment."""
