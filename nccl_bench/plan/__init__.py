"""The plan of a run: its cases, what is left out, its process sets, its memory and its time. Imports no torch.

Every rank and the command line compute the same plan from the same configuration, so ``--dry-run`` shows what a worker
will do.
"""
