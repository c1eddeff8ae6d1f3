"""Logs of nccl-tests with damaged lines, and the judgement of their import: nothing may differ without a word."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from nccl_bench.errors import RecordError
from nccl_bench.records.importers import Imported, read
from tests.support.nccl_tests_files import DATA, samples_of

CASES = Path(__file__).parents[1] / "data" / "import-cases"
# Lines of other programs, which can come into a log between any two characters.
FOREIGN = (
    "node1:1009:1024 [1] NCCL INFO Channel 00/0 : 1[1] -> 2[2] via P2P/CUMEM",
    "bash: warning: setlocale: LC_ALL: cannot change locale (en_US.UTF-8)",
    "[node0:01625] 7 more processes have sent help message help-mpi-btl-openib.txt",
    "",
)


class Outcome(StrEnum):
    """The outcome of the import of a damaged log."""

    EQUAL = "equal to the whole log"
    REPORTED = "different, and reported"
    REFUSED = "refused"
    SILENT = "different without a word"


def _all_sizes(text: str, sizes: str) -> str:
    """Return ``text`` with settings that imply the sizes of its rows; some files lack rows of the real output."""
    return re.sub(r"minBytes [0-9]+ maxBytes [0-9]+ step: [0-9]+\(factor\)", sizes, text)


def good_logs() -> Mapping[str, tuple[str, str | None]]:
    """Return the name of each whole log, its text, and the collective that the user has to name."""
    both = "minBytes 1048576 maxBytes 134217728 step: 128(factor)"
    texts = {path.name: path.read_text(encoding="latin1") for path in (*CASES.iterdir(), *DATA.iterdir())}
    # The file repeats the busbw of all_reduce, and all_gather has half of it.
    first, second = texts["slurm-job-two-collectives.out"].split("srun all_gather_perf\n")
    for old, new in (("58.70", "29.35"), ("59.64", "29.82"), ("450.21", "225.10"), ("450.33", "225.16")):
        second = second.replace(old, new)
    two_nodes = re.sub("  2147483648  .*\n", "", texts["rccl-two-nodes.txt"])
    one_size = "minBytes 1048576 maxBytes 1048576 step: 2(factor)"
    logs = {
        "all_reduce": texts["all_reduce.txt"],
        "per-iteration": texts["all_reduce-per-iteration.txt"],
        "more columns": texts["rccl-hipevt-algo.txt"],
        "one placement": texts["rccl-oop-only.txt"],
        "eight ranks": _all_sizes(texts["eight-ranks.txt"], both),
        "two tables": _all_sizes(f"{first}srun all_gather_perf\n{second}", both),
        "tags of mpirun": _all_sizes(texts["mpirun-tag-output.txt"], both),
        "labels of srun": _all_sizes(texts["srun-label.txt"], both),
        "timestamps": _all_sizes(texts["kubectl-timestamps.txt"], both),
        "two nodes": _all_sizes(two_nodes, "minBytes 1024 maxBytes 1048576 step: 1024(factor)"),
        "roots": _all_sizes(texts["wrong-root.txt"], one_size),
    }
    return {name: (text, None) for name, text in logs.items()} | {
        "2020": (_all_sizes(texts["nccl-2020.txt"], one_size), "all_reduce")
    }


def _cut(draw: Callable[[Any], Any], lines: list[str], index: int) -> None:
    """Cut a line in two; a line of another program may come between, or the second part is lost."""
    position = draw(st.integers(0, len(lines[index])))
    head, tail = lines[index][:position], lines[index][position:]
    foreign = draw(st.sampled_from(FOREIGN))
    lines[index : index + 1] = draw(st.sampled_from([[head, tail], [head], [tail], [head + foreign, tail]]))


def _glue(draw: Callable[[Any], Any], lines: list[str], index: int) -> None:
    """Glue a line to the next one, or to a line of another program."""
    foreign = draw(st.sampled_from(FOREIGN))
    following = lines[index + 1 : index + 2]
    lines[index : index + 2] = draw(
        st.sampled_from(
            [
                [lines[index] + "".join(following)],
                [lines[index] + foreign, *following],
                [foreign + lines[index], *following],
            ]
        )
    )


def _drop(draw: Callable[[Any], Any], lines: list[str], index: int) -> None:
    """Drop one line or several."""
    del lines[index : index + draw(st.integers(1, 3))]


def _reorder(draw: Callable[[Any], Any], lines: list[str], index: int) -> None:
    """Move a line to another place."""
    line = lines.pop(index)
    lines.insert(draw(st.integers(0, len(lines))), line)


def _repeat(draw: Callable[[Any], Any], lines: list[str], index: int) -> None:
    """Write a line a second time."""
    lines.insert(draw(st.integers(0, len(lines))), lines[index])


def _end(draw: Callable[[Any], Any], lines: list[str], index: int) -> None:
    """End the file in the middle of a line, below the last column names: a table without a line leaves no sign."""
    index = max([index, *(number for number, line in enumerate(lines) if "(elements)" in line)])
    lines[index:] = [lines[index][: draw(st.integers(0, len(lines[index])))]]


@st.composite
def damaged(draw: Callable[[Any], Any], text: str) -> str:
    """Draw ``text`` with one to three damages."""
    lines = text.split("\n")
    for number in range(draw(st.integers(1, 3))):
        if lines:
            # Only a file with all its tables ends early.
            damage = draw(st.sampled_from([_cut, _glue, _drop, _reorder, _repeat, *([_end] if number == 0 else [])]))
            damage(draw, lines, draw(st.integers(0, len(lines) - 1)))
    return "\n".join(lines)


def outcome_of(path: Path, text: str, good: Imported, collective: str | None) -> Outcome:
    """Return what the import of the damaged ``text`` does, against the import of the whole log."""
    path.write_text(text, encoding="utf-8")
    try:
        imported = read(path, collective)
    except RecordError:
        return Outcome.REFUSED
    if set(imported.left_out) - set(good.left_out):
        return Outcome.REPORTED
    return Outcome.EQUAL if _numbers(imported) == _numbers(good) else Outcome.SILENT


def _numbers(imported: Imported) -> Sequence[object]:
    """Return all that an import is used for, without the order of its lines."""
    samples = {(line.case, line.timing): line for line in samples_of(imported)}
    return samples, imported.world_size, imported.processes, imported.library
