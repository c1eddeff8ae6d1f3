"""Small programs for the audit: mutants with one defect each in their order, and programs that are right.

They run on the CPU's streams and on a GPU. The current stream is a new one, the stream of the caller. A remark such as
``# write`` names a line of a program, and a mutant says which pairs of lines race.
"""

from tests.support.audit_programs import (
    callers,
    communicators,
    right_programs,
    threads_and_host,
    torch_distributed,
    views,
)
from tests.support.audit_programs.kit import MUTANTS, RIGHT_PROGRAMS, Kit, Mutant, watched

__all__ = [
    "MUTANTS",
    "RIGHT_PROGRAMS",
    "Kit",
    "Mutant",
    "callers",
    "communicators",
    "right_programs",
    "threads_and_host",
    "torch_distributed",
    "views",
    "watched",
]
