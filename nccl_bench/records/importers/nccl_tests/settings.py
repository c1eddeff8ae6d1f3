"""The lines of a table that say what was measured: the settings, the program and the library."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nccl_bench.catalog.nccl_version import version_text
from nccl_bench.errors import RecordError
from nccl_bench.records.decoding import shown
from nccl_bench.records.importers.imported import NCCL, RCCL, LibraryVersion
from nccl_bench.records.importers.nccl_tests.lines import Line, matches
from nccl_bench.records.importers.nccl_tests.output import Sizes
from nccl_bench.records.importers.nccl_tests.sections import SETTINGS

_COUNT = "([0-9]{1,18})"
_WHOLE_SETTINGS = re.compile(
    rf"# nThread {_COUNT} nGpus {_COUNT} minBytes {_COUNT} maxBytes {_COUNT} step: {_COUNT}\((factor|bytes)\) "
    rf"warmup iters: {_COUNT} iters: {_COUNT}(?: agg iters: (?P<aggregated>[0-9]{{1,18}}))? validation: {_COUNT}"
    r"(?: graph: (?P<graph>[0-9]{1,18}))?(?: [a-z_ ]+: [0-9]+)*"
)
# The second part of a settings line that was cut in two, if the first part looks like a whole line.
_REST_OF_SETTINGS = re.compile(r"[0-9]*(?: [a-z_ ]+: [0-9]+)*")
_REDUCED = re.compile(r"# Reducing maxBytes to ([0-9]{1,18}) due to memory limitation")
_PROGRAM = re.compile(r"# Collective test starting: (\S+)")
_TESTS_VERSION = re.compile(r"# ([nr]ccl)-tests version .* [nr]ccl-library=([0-9]{5,6})$")
_RCCL_TESTS = re.compile(r"rccl-tests: Version ")
_LIBRARY_VERSION = re.compile(r"(?:.*NCCL INFO )?([RN]CCL) version ?:? ?([0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3})(?![0-9])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings line of a table."""

    ranks_of_process: int  # ranks that one process runs
    sizes: Sizes  # the message sizes
    iterations: int  # measured iterations
    aggregated: int  # operations of an iteration
    graph_launches: int  # launches of the graph; 0 if there is no graph


def read_settings(lines: Sequence[Line]) -> Settings:
    """Return the settings of the table; raise ``RecordError`` if their line is cut, or holds other text too."""
    ((index, line),) = [pair for pair in enumerate(lines) if not pair[1].aside and SETTINGS.match(pair[1].text)]
    match = _WHOLE_SETTINGS.fullmatch(line.text)
    if match is None or (match["aggregated"] and not match["graph"]):
        beginning = _WHOLE_SETTINGS.match(line.text)
        rest = f", with {shown(line.text[beginning.end() :])} at its end" if beginning else ""
        raise RecordError(
            f"line {line.number}, {shown(line.text)}{rest}, is not a whole line of settings: nccl-tests writes '# "
            "nThread 1 nGpus 1 minBytes 8 ...' on a line without other text"
        )
    following = next((other for other in lines[index + 1 :] if not other.aside), None)
    if following is not None and following.text and _REST_OF_SETTINGS.fullmatch(following.text):
        raise RecordError(
            f"line {following.number}, {shown(following.text)}, may be the end of the settings on line {line.number}: "
            "nccl-tests writes its settings on one line"
        )
    threads, gpus, minimum, maximum, step = (int(match[group]) for group in range(1, 6))
    reduced = [int(line[1]) for line in matches(_REDUCED, lines)]
    return Settings(
        ranks_of_process=max(1, threads * gpus),
        sizes=Sizes(minimum=minimum, maximum=min([maximum, *reduced]), step=step, is_factor=match[6] == "factor"),
        iterations=int(match[8]),
        aggregated=int(match["aggregated"] or 1),
        graph_launches=int(match["graph"] or 0),
    )


def read_program(lines: Sequence[Line]) -> str | None:
    """Return the name of the program; ``None`` if the table has none, as before nccl-tests 2.17."""
    programs = {match[1] for match in matches(_PROGRAM, lines)}
    if len(programs) > 1:
        raise RecordError(f"it names {len(programs)} programs for one table: {', '.join(sorted(programs))}")
    return next(iter(programs), None)


def read_library(lines: Sequence[Line]) -> tuple[LibraryVersion | None, tuple[str, ...]]:
    """Return the library and sentences about it; the library is ``None`` if the table does not name its version."""
    libraries = [(match[1], version_text(int(match[2]))) for match in matches(_TESTS_VERSION, lines)]
    libraries += [(match[1], match[2]) for match in matches(_LIBRARY_VERSION, lines)]
    # RCCL also prints lines that call it NCCL.
    is_rccl = any(name.lower() == RCCL for name, _ in libraries) or matches(_RCCL_TESTS, lines)
    name = RCCL if is_rccl else NCCL
    versions = sorted({version for _, version in libraries})
    if len(versions) == 1:
        return LibraryVersion(name=name, version=versions[0]), ()
    if versions:
        return None, (f"it names {len(versions)} versions of {name.upper()}, {' and '.join(versions)}: none is used",)
    return None, (f"it does not name the version of {name.upper()}",)
