"""The proof that a communicator keeps stream order: what is probed (``catalog``), what came of it (``proof``), what a
probe works with (``rig``), the probes themselves, and the rank that runs them (``worker``).

``catalog`` and ``proof`` load no torch: the command line needs them before any rank is started.
"""
