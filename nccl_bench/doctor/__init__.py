"""The examination of a machine: its equipment, and the reasons why a benchmark fails or is distorted there.

Each subject is a function of a ``Machine``, from which it reads files, variables and the driver. It yields what it
sees as ``Diagnosis``. ``examination`` has the table of all subjects. No torch: a broken torch is one of the things that
must be found.
"""
