"""Reads the directory of a run. Any older version may have written the directory, and the run may have ended early."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nccl_bench.catalog.arms import IMPORTED_ARMS, TWIN_SUFFIX
from nccl_bench.catalog.cases import Case
from nccl_bench.catalog.scenarios import has_deadlocks
from nccl_bench.config.hidden_values import options_to_give_again
from nccl_bench.config.question import analysed_baseline, asked_candidates
from nccl_bench.errors import RecordError
from nccl_bench.records.collection import pausing_collection
from nccl_bench.records.decoding import decode, parse_json, read_text
from nccl_bench.records.locks import is_written
from nccl_bench.records.meta import RunMeta
from nccl_bench.records.redaction import redact
from nccl_bench.records.schema import SCHEMA, Crash, Hang, Line, Resume, Skipped
from nccl_bench.records.upgrade import upgrade
from nccl_bench.safety.regular_files import lines_of, open_regular

if TYPE_CHECKING:
    from nccl_bench.records.attempts import CaseInLaunch
    from nccl_bench.records.columns import SampleColumns
    from nccl_bench.records.lines import Lines

TOOL = "nccl-bench"
RUN, SAMPLES, SUMMARY = FILES = ("run.json", "samples.jsonl", "summary.csv")
# The directory of profiles, in the directory of a run.
PROFILES = "profile"
VERIFICATION, FINDINGS = VERIFICATION_FILES = ("verification.json", "findings.jsonl")
# The `launch.mode` in run.json of a run whose ranks nccl-bench started itself.
LAUNCHED = "torchrun"
# The beginning of the `launch.mode` of a run whose ranks another launcher started; its name follows.
ATTACHED = "attached: "
# Since this schema, a run with the arms `before` and `after` has the baseline `before`, unless the user chose another.
_SCHEMA_WITH_QUESTION = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as it was read from its directory."""

    meta: Mapping[str, Any]  # the content of run.json
    # The lines of samples.jsonl, with only one attempt of each case in each launch. Any sequence becomes `Lines`.
    lines: Lines[Line]
    ended: frozenset[CaseInLaunch] = frozenset()  # the cases, each in a launch, that have an end; empty before schema 4
    resumes: tuple[Resume, ...] = ()  # the points at which the run was continued
    warnings: tuple[str, ...] = ()  # sentences about damage to the files
    directory: Path | None = None  # the directory; None if the run was not read from one, or it was removed
    # True while a command writes the run; None if the run has ended, or if this is unknown.
    is_written: bool | None = None

    def __post_init__(self) -> None:
        """Make the columns of the samples."""
        from nccl_bench.records.lines import Lines

        object.__setattr__(self, "lines", Lines.of(self.lines))

    @classmethod
    @pausing_collection()
    def load(cls, path: Path) -> Run:
        """Read the directory ``path``; raise ``RecordError`` with the file, the line and the reason."""
        file = path / SAMPLES
        meta = read_meta(path)
        # A command can end the run while this one reads it. So look at the lock after run.json and before the lines.
        written = _is_written(meta, file)
        try:
            with open_regular(file) as opened:
                run = cls.parse(meta, lines_of(opened), file)
        except OSError as error:
            raise RecordError(f"{file} cannot be read: {error.strerror}") from error
        return replace(run, directory=path, is_written=written)

    @classmethod
    def parse(cls, meta: Mapping[str, Any], samples: Iterable[bytes], file: Path) -> Run:
        """Return the run with ``meta`` and the lines in ``samples``; ``file`` is for messages about the lines."""
        # Import here, because ranks import this module, and their interpreter can lack msgspec and numpy.
        from nccl_bench.records.attempts import sort_out
        from nccl_bench.records.reading import read_entries

        entries, warnings = read_entries(samples, file)
        attempts = sort_out(entries, file)
        return cls(
            meta=meta,
            lines=attempts.lines,
            ended=attempts.ended,
            resumes=attempts.resumes,
            warnings=warnings,
        )

    @property
    def samples(self) -> SampleColumns:
        """The lines with samples."""
        return self.lines.samples

    @property
    def others(self) -> Iterable[Line]:
        """The lines without samples: skipped cases, hangs and crashes."""
        return self.lines.others.values()

    @property
    def world_size(self) -> int:
        """The number of ranks."""
        return int(self.meta["launch"]["world_size"])

    @property
    def device(self) -> str:
        """The kind of device: ``cuda`` or ``cpu``."""
        return str(self.meta["config"]["device"])

    @property
    def baseline(self) -> str:
        """The name of the arm that the other arms are compared with."""
        if self.baseline_was_chosen:
            return self.recorded_baseline
        return analysed_baseline(self.meta["config"]["arms"], self.recorded_baseline)

    @property
    def recorded_baseline(self) -> str:
        """The name of the baseline during the run: the arm that has a twin."""
        return str(self.meta["config"]["baseline"])

    @property
    def baseline_was_chosen(self) -> bool:
        """True if the user chose the baseline, or if the version that measured the run had today's default."""
        if int(self.meta.get("schema") or SCHEMA) >= _SCHEMA_WITH_QUESTION:
            return True
        command = self.meta.get("command")
        return isinstance(command, list) and any(str(word).partition("=")[0] == "--baseline" for word in command)

    @property
    def arms(self) -> tuple[str, ...]:
        """The names of the arms: first the baseline, then the arms that the run asks about, then all others."""
        return tuple(dict.fromkeys((self.baseline, *self.asked_arms, *self.meta["config"]["arms"])))

    @property
    def asked_arms(self) -> tuple[str, ...]:
        """The arms whose verdicts answer the question of the run."""
        return asked_candidates(self.meta["config"]["arms"], self.baseline, self.targets)

    @property
    def targets(self) -> dict[str, str]:
        """The target of each user arm, by the arm's name."""
        user_arms = self.meta["config"].get("user_arms") or ()
        return {str(user_arm.get("name")): str(user_arm.get("target")) for user_arm in user_arms}

    @property
    def process_sets(self) -> tuple[tuple[str, ...], ...]:
        """The names of the arms of each process set, twins included; empty if all arms share their processes."""
        process_sets = (self.meta.get("worker") or {}).get("process_sets") or ()
        return tuple(tuple(map(str, each.get("arms") or ())) for each in process_sets)

    @property
    def cases(self) -> int | None:
        """The number of planned cases; ``None`` for an import and before schema 4."""
        return self.meta.get("cases")

    @property
    def launches(self) -> int:
        """The number of launches that were requested; 1 before schema 5."""
        return self.meta["config"].get("launches") or 1

    @property
    def skipped(self) -> int:
        """The number of skipped cases; a case counts in each launch."""
        return sum(isinstance(line, Skipped) for line in self.others)

    @property
    def missing(self) -> int:
        """The number of planned cases that were neither measured nor skipped; 0 if the plan is unknown.

        A case counts in each launch.
        """
        return 0 if self.cases is None else self.cases * self.launches - len(self.ended)

    @property
    def excluded(self) -> tuple[str, ...]:
        """The arms that are no longer measured, because they hung or crashed."""
        ends = (line for line in self.others if isinstance(line, Hang | Crash) and line.excludes_arm)
        return tuple(dict.fromkeys(end.arm.removesuffix(TWIN_SUFFIX) for end in ends))

    @property
    def deadlocks(self) -> tuple[tuple[Case, str], ...]:
        """Each case in which an arm ended in a deadlock, with the arm. The arm is still measured in other cases."""
        return tuple(
            (line.case, line.arm.removesuffix(TWIN_SUFFIX))
            for line in self.others
            if isinstance(line, Hang) and line.case is not None and line.arm and has_deadlocks(line.case)
        )

    @property
    def can_be_resumed(self) -> bool:
        """True if ``run --resume`` can continue this run: on one node, and nccl-bench itself started the ranks."""
        launch = self.meta["launch"]
        return self.cases is not None and launch.get("mode") == LAUNCHED and launch.get("nnodes") == 1

    @property
    def resume_command(self) -> str | None:
        """The command that measures the missing cases; ``None`` if no case is missing, or no command can do it."""
        if self.directory is None or not self.missing or not self.can_be_resumed or set(self.arms) <= {*self.excluded}:
            return None
        again = options_to_give_again(self.meta["config"])
        return shlex.join([TOOL, "run", "--resume", str(self.directory), *again])

    @property
    def is_import(self) -> bool:
        """True for a run that another tool measured and ``nccl-bench import`` recorded."""
        return is_import(self.meta)


def _is_written(meta: Mapping[str, Any], file: Path) -> bool | None:
    """Return whether a command holds the lock on ``file``, which has the lines; ``None`` if that is unknown."""
    # Before schema 4, and for ranks that another launcher started, there is no lock.
    has_lock = meta.get("cases") is not None and meta["launch"].get("mode") == LAUNCHED
    if meta["status"] != "running" or not has_lock:
        return None
    return is_written(file, meta["environment"].get("hostname"))


def is_attached(meta: Mapping[str, Any]) -> bool:
    """Return True if another launcher started the ranks of ``meta``, the content of a ``run.json``."""
    return str((meta.get("launch") or {}).get("mode") or "").startswith(ATTACHED)


def is_import(meta: Mapping[str, Any]) -> bool:
    """Return True if ``meta``, the content of a ``run.json``, belongs to a run that another tool measured."""
    return meta["config"].get("baseline") in IMPORTED_ARMS


def read_meta(path: Path) -> dict[str, Any]:
    """Return the content of ``run.json`` in the directory ``path``, with the names of today's schema.

    Raises ``RecordError`` if the file is missing or this version cannot read it.
    """
    # These functions of os.path answer False, and raise nothing, for a path that the system refuses.
    if not os.path.isdir(path):
        raise RecordError(f"{path} is not a run: it {'is a file' if os.path.lexists(path) else 'does not exist'}")
    file = path / RUN
    if not os.path.lexists(file):
        holds_verification = os.path.lexists(path / VERIFICATION)
        reason = f"it holds a verification; give it to `{TOOL} report`" if holds_verification else f"it has no {RUN}"
        raise RecordError(f"{path} is not a run: {reason}")
    text = read_text(file)
    try:
        return _checked(parse_json(text))
    except RecordError as error:
        raise RecordError(f"{file}: {error}") from error


def _checked(meta: object) -> dict[str, Any]:
    if not isinstance(meta, dict) or meta.get("tool") != TOOL or not isinstance(meta.get("schema"), int):
        raise RecordError(f"it was not written by {TOOL}")
    if meta["schema"] > SCHEMA:
        raise RecordError(
            f"it was written by {TOOL} {meta.get('version')} with schema {meta['schema']}; this version reads up to "
            f"{SCHEMA}: use that version or a later one"
        )
    return redact(decode(RunMeta, upgrade(meta), ""))
