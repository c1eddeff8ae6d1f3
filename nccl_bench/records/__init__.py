"""What is written down: the lines of a run (``schema``), its directory (``store``) and the machine (``environment``).

Everything a report says has to follow from these files, and they have to be readable without torch or pandas.
"""
