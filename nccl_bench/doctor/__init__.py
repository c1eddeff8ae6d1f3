"""The examination of a machine: its equipment, and the reasons why a benchmark fails or is distorted there.

Each subject is a function. It reads files, variables and the driver from a ``Machine``, and yields a ``Diagnosis`` for
each fact that matters. ``examination`` has the table of all subjects. No torch: a broken torch is one of the things
that must be found.
"""
