"""Readers of what a real program recorded about its collectives, and the join of several such files. No torch.

``readers.READERS`` is the table of formats. To add a format, write a module beside ``kineto`` and add a row.
"""
