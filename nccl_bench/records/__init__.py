"""The files of a run: its lines (``schema``), its directory (``run`` reads, ``store`` writes), its ``environment``.

Every report is made from these files alone. They can be read without torch or pandas.
"""
