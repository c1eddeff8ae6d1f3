"""The record of a verification: its configuration, the facts about its command, and what it found. Imports no torch."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nccl_bench.analysis.wording import counted
from nccl_bench.catalog.bounds import AtLeastOne, Few
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.config.hidden_values import options_to_give_again
from nccl_bench.config.parsers import one_of
from nccl_bench.config.verification import VerifyConfig, resolve_verification
from nccl_bench.errors import RecordError, UsageError
from nccl_bench.records.anonymity import ARM_PATHS, Aliases
from nccl_bench.records.decoding import decode, parse_json, read_text
from nccl_bench.records.locks import is_written
from nccl_bench.records.meta import VerificationFacts
from nccl_bench.records.redaction import redact
from nccl_bench.records.run import FINDINGS, TOOL, VERIFICATION
from nccl_bench.verify.findings import parse_findings, parse_notes, parse_processes
from nccl_bench.verify.judgement import Verification, judge

_RUNNING = "running"
# Whether a command still writes the record -> the sentence about a verification whose end is not recorded.
_WITHOUT_END: Mapping[bool | None, str] = {
    True: "The verification still runs.",
    False: "The verification was KILLED.",
    None: "The verification still runs, or was KILLED.",
}
# Status of a verification that has ended early -> the sentence about its end.
_ENDS: Mapping[str, str] = {
    "interrupted": "The verification was INTERRUPTED.",
    "failed": "An error ended the verification.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationRecord:
    """A verification that is complete, goes on, or ended early."""

    facts: Mapping[str, Any]  # the fields of ``VerificationFacts``
    config: VerifyConfig  # the configuration
    world_size: int  # the number of ranks
    gpus: int | None  # the number of GPUs, less than the world size if ranks share GPUs; None if unknown
    lines: str = ""  # the content of the file of findings
    source: Path = Path(FINDINGS)  # the file of findings, for messages
    directory: Path | None = None  # the directory; None if the record was not read from one
    # True while a command writes the record; None if the record is complete, or if this is unknown.
    is_written: bool | None = None

    @classmethod
    def load(cls, directory: Path) -> VerificationRecord:
        """Read a directory of ``nccl-bench verify --out``. The verification may be incomplete.

        Raises ``RecordError`` with the file and the reason if a file is missing or is not as it was written.
        """
        if not os.path.lexists(directory / VERIFICATION):
            what = f"it has no {VERIFICATION}" if os.path.isdir(directory) else "it does not exist"
            raise RecordError(f"{directory} is not a verification: {what}")
        file, findings = directory / VERIFICATION, directory / FINDINGS
        text = read_text(file)
        try:
            meta = decode(dict[str, Any], parse_json(text), "the file")
            if meta.get("tool") != TOOL:
                raise RecordError(f"it was not written by {TOOL}")
            if "status" not in meta:
                raise RecordError(f"version {meta.get('version')} wrote it, without {FINDINGS}: read the file itself")
            known = {name: meta.get(name) for name in VerificationFacts.__annotations__}
            facts = redact(decode(VerificationFacts, known, ""))
            device = one_of("device", facts["config"].get("device"), DEVICES)
            record = cls(
                facts=facts,
                config=resolve_verification(device, facts["config"]),
                world_size=decode(AtLeastOne, meta.get("world_size"), "world_size"),
                gpus=decode(Few | None, meta.get("gpus"), "gpus"),
            )
        except (RecordError, UsageError) as error:
            raise RecordError(f"{file}: {error}") from error
        written = is_written(findings, facts["environment"].get("hostname")) if facts["status"] == _RUNNING else None
        record = replace(record, lines=read_text(findings), source=findings, directory=directory, is_written=written)
        parse_findings(record.lines, findings)
        return record

    def anonymous(self, aliases: Aliases) -> VerificationRecord:
        """Return the record with aliases for hosts, paths and GPUs, and without its directory."""
        facts = aliases.meta(self.facts)
        arms = zip(self.config.user_arms, facts["config"].get("user_arms") or (), strict=True)
        config = replace(
            self.config,
            nccl_library=facts["config"].get("nccl_library"),
            user_arms=tuple(replace(arm, **{key: shown.get(key) for key in ARM_PATHS}) for arm, shown in arms),
        )
        # The last line is a partial one if its writer was killed.
        whole = (line for line in self.lines.splitlines(keepends=True) if line.endswith("\n"))
        lines = "".join(json.dumps(aliases.texts(parse_json(line))) + "\n" for line in whole if line.strip())
        return replace(self, facts=facts, config=config, lines=lines, directory=None)

    @property
    def verification(self) -> Verification:
        """The judgement of what was found so far."""
        findings, notes = parse_findings(self.lines, self.source), parse_notes(self.lines, self.source)
        judged = judge(self.config, self.world_size, findings, notes)
        return replace(
            judged,
            gpus=self.gpus,
            history=tuple(self._history()),
            resume_command="" if judged.complete else self._resume_command,
            facts=self.facts,
            processes=tuple(parse_processes(self.lines, self.source)),
        )

    @property
    def is_empty(self) -> bool:
        """True if no probe has a finding, and nothing else was noted."""
        return not (parse_findings(self.lines, self.source) or parse_notes(self.lines, self.source))

    @property
    def _resume_command(self) -> str:
        if self.directory is None or self.is_written:
            return ""
        again = options_to_give_again(self.facts["config"])
        return shlex.join([TOOL, "verify", "--resume", str(self.directory), *again])

    def _history(self) -> Iterator[str]:
        """Yield how the verification ended, unless it completed, and when it was continued."""
        status = self.facts["status"]
        end = _WITHOUT_END[self.is_written] if status == _RUNNING else _ENDS.get(status, "")
        if end:
            yield end
        if resumed := self.facts["resumed"]:
            yield f"The verification was continued {counted(len(resumed), 'time')}, last at {resumed[-1]}."
