"""Readers of other tools' output. The output becomes a run with one arm.

``READERS`` is the table of tools. To add a tool, write a module or a folder beside ``nccl_tests``, add a row to
``READERS``, and add the tool's name to ``catalog.arms.IMPORTED_ARMS``.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nccl_bench.errors import RecordError
from nccl_bench.records.decoding import decode
from nccl_bench.records.importers import nccl_tests
from nccl_bench.records.importers.imported import NCCL, RCCL, Imported, OverRanks, merge
from nccl_bench.records.importers.source import read_source
from nccl_bench.records.meta import RunMeta
from nccl_bench.records.run import FILES
from nccl_bench.records.schema import dump, parse

__all__ = ["NCCL", "RCCL", "READERS", "Imported", "OverRanks", "merge", "read"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """The reader of one tool's output."""

    files: str  # the files that the reader accepts, for messages
    # The function takes the text of a file, the file's name, and the collective that the user named, or None. It
    # returns None if another tool wrote the text, and raises RecordError if the text is malformed.
    read: Callable[[str, str, str | None], Imported | None]
    default_rule: OverRanks  # how the tool merges the times of ranks without an option
    rules: Mapping[OverRanks | None, str]  # a rule -> its words; None -> the words if no rule is known
    slowest_option: str  # the tool's option for times of the slowest rank, as nccl-bench measures
    events_option: str  # the tool's option that puts events between operations
    own_processes: str  # how to give each rank of the tool a process of its own


# The name of a tool, which is also the name of its arm -> its reader.
READERS: Mapping[str, Reader] = {
    nccl_tests.ARM: Reader(
        files="its JSON (-J), or everything that it printed",
        read=nccl_tests.read,
        default_rule=OverRanks.AVERAGE,
        rules=nccl_tests.RULES,
        slowest_option=nccl_tests.SLOWEST_OPTION,
        events_option="-I",
        own_processes=nccl_tests.OWN_PROCESSES,
    ),
}


def _refuse_unreadable(imported: Imported) -> None:
    """Raise ``RecordError`` if nobody could read the record of ``imported``, for example if a name has a megabyte."""
    decode(RunMeta, json.loads(json.dumps(imported.meta())), "")
    for line in imported.lines:
        parse(dump(line))


def read(path: Path, collective: str | None = None) -> Imported:
    """Return the content of ``path``, a file that one of the ``READERS`` knows.

    ``collective`` is the name of the collective, for files that do not name it. Raises ``RecordError`` with the file,
    what is wrong and what is allowed.
    """
    source = read_source(path)
    try:
        for reader in READERS.values():
            imported = reader.read(source.text, source.name, collective)
            if imported is not None:
                notes = (f"{source.name}: {note}" for note in source.notes)
                imported = replace(imported, left_out=(*imported.left_out, *notes))
                _refuse_unreadable(imported)
                return imported
        known = "; ".join(f"{tool}: give {reader.files}" for tool, reader in READERS.items())
        raise RecordError(f"it is not the output of a known tool ({known})")
    except RecordError as error:
        hint = "; to report or compare a run, give its directory" if path.name in FILES else ""
        raise RecordError(f"{path}: {error}{hint}") from error
