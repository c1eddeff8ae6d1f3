"""The record of a verification: its configuration, the facts about its command, and what it found. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nccl_bench.catalog.devices import DEVICES
from nccl_bench.config.parsers import one_of
from nccl_bench.config.verification import VerifyConfig, resolve_verification
from nccl_bench.errors import RecordError, UsageError
from nccl_bench.records.decoding import decode, parse_json, read_text
from nccl_bench.records.run import FINDINGS, TOOL, VERIFICATION
from nccl_bench.verify.findings import parse_findings, parse_notes
from nccl_bench.verify.judgement import Verification, judge

# The facts about the command and the machine in verification.json, and their types.
FACTS: Mapping[str, Any] = {
    "tool": str,
    "version": str,
    "started": str,
    "resumed": list[str],  # when the verification was resumed
    "finished": str | None,  # when it ended; None if it has not ended, or was killed
    "status": str,  # a ``RunStatus``
    "command": list[str],
    "config": dict,
    "environment": dict,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationRecord:
    """A verification that is complete, goes on, or ended early."""

    facts: Mapping[str, Any]  # a value for each key of FACTS
    config: VerifyConfig  # the configuration
    world_size: int  # the number of ranks
    gpus: int | None  # the number of GPUs, less than the world size if ranks share GPUs; None if unknown
    lines: str = ""  # the content of the file of findings
    source: Path = Path(FINDINGS)  # the file of findings, for messages

    @classmethod
    def load(cls, directory: Path) -> VerificationRecord:
        """Read a directory of ``nccl-bench verify --out``. The verification may be incomplete.

        Raises ``RecordError`` with the file and the reason if a file is missing or is not as it was written.
        """
        if not (directory / VERIFICATION).exists():
            what = f"it has no {VERIFICATION}" if directory.is_dir() else "there is no such directory"
            raise RecordError(f"{directory} is not a verification: {what}")
        file, findings = directory / VERIFICATION, directory / FINDINGS
        text = read_text(file)
        try:
            meta = decode(dict[str, Any], parse_json(text), "the file")
            if meta.get("tool") != TOOL:
                raise RecordError(f"it was not written by {TOOL}")
            if "status" not in meta:
                raise RecordError(f"version {meta.get('version')} wrote it, without {FINDINGS}: read the file itself")
            facts = {name: decode(kind, meta.get(name), name) for name, kind in FACTS.items()}
            device = one_of("device", facts["config"].get("device"), DEVICES)
            record = cls(
                facts=facts,
                config=resolve_verification(device, facts["config"]),
                world_size=decode(int, meta.get("world_size"), "world_size"),
                gpus=decode(int | None, meta.get("gpus"), "gpus"),
            )
        except (RecordError, UsageError) as error:
            raise RecordError(f"{file}: {error}") from error
        record = replace(record, lines=read_text(findings), source=findings)
        parse_findings(record.lines, findings)
        return record

    @property
    def verification(self) -> Verification:
        """The judgement of what was found so far."""
        findings, notes = parse_findings(self.lines, self.source), parse_notes(self.lines, self.source)
        return replace(judge(self.config, self.world_size, findings, notes), gpus=self.gpus)
