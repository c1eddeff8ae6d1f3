"""The programs of nccl-tests, and the collective that each of them measures."""

import re

from nccl_bench.catalog.collectives import COLLECTIVES, Collective
from nccl_bench.errors import RecordError
from nccl_bench.records.decoding import shown

_RENAMED = {"all_to_all": "alltoall", "send_recv": "sendrecv"}
# The name of nccl-tests' program, without "_perf" -> the collective.
_PROGRAMS = {_RENAMED.get(name, name): row for name, row in COLLECTIVES.items()}
_FILE_NAME = re.compile(r"(?:.*[/\\])?([a-z_]+?)_perf[\w.-]*")


def collective_of(program: str | None, given: str | None) -> Collective:
    """Return the collective of ``program``, the path of a program on Linux or Windows.

    ``given`` is the collective that the user named, by its name here or in nccl-tests. Raises ``RecordError`` if
    neither of the two names a collective, or if they differ.
    """
    if program is None and given is None:
        raise RecordError(
            "it does not name its collective, because older programs print no line '# Collective test starting: X': "
            "give it with `nccl-bench import --collective NAME`"
        )
    of_program = None if program is None else _of_program(program)
    if given is None:
        assert of_program is not None
        return of_program
    named = COLLECTIVES.get(given) or _PROGRAMS.get(given.removesuffix("_perf"))
    if named is None:
        raise RecordError(f"--collective is {shown(given)}: known are {', '.join(COLLECTIVES)}")
    if of_program not in (None, named):
        raise RecordError(f"its program is {shown(program)}, and --collective is {given}: leave --collective out")
    return named


def _of_program(program: str) -> Collective:
    match = _FILE_NAME.fullmatch(program)
    if match is None or match[1] not in _PROGRAMS:
        raise RecordError(
            f"its program is {shown(program)}, and nccl-bench has only the collectives of {', '.join(_PROGRAMS)}"
        )
    return _PROGRAMS[match[1]]
