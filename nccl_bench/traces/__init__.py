"""Reads the files in which a real program recorded its collectives, and joins several such files. No torch.

``readers.READERS`` is the table of formats. To add a format, write a module beside ``kineto`` and add a row.
"""
