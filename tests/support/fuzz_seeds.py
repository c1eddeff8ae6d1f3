"""Valid inputs of the readers that are fuzzed, from real files and made up."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from nccl_bench.config.run import resolve
from nccl_bench.config.user_arms import parse_arm_options
from nccl_bench.config.verification import resolve_verification
from nccl_bench.plan.cases import make_plan
from nccl_bench.records.run import FINDINGS, LAUNCHED, RUN, SAMPLES, VERIFICATION
from nccl_bench.records.schema import CaseEnd, Resume, Skipped, dump
from nccl_bench.records.store import new_meta
from tests.support import recordings
from tests.support.command import ROOT
from tests.support.findings import make_findings, write_verification
from tests.support.mutations import dumped
from tests.support.nccl_tests_files import FILES
from tests.support.synthetic_runs import (
    ARMS,
    case,
    crash,
    declined,
    gpus,
    hang,
    meta,
    per_iteration,
    samples,
    sweep,
    wrong,
)

# The files of one input: name -> content.
Files = Mapping[str, bytes]


def run_seeds() -> Sequence[Files]:
    seeds: list[Files] = []
    ends = [CaseEnd(case=case())]
    entries = [
        samples(
            per_iteration=per_iteration(), gpus=gpus(), launch=1, arms_before=(0, 1, 2), began_s=(1.0, 2.0, 3.0), late=0
        ),
        samples("dedicated-stream", gpus=gpus(throttled_rank=1)),
        samples("dedicated-stream:twin"),
        declined(arm="torch"),
        wrong(arm="torch-async"),
        Skipped(case=case(2048), reason="does not fit"),
        hang(case=case(4096), ras={"ranks": [1]}),
        crash(case=None),
        Resume(started="2026-11-23T04:54:58+00:00", command=("nccl-bench", "run", "--resume", "x")),
        *ends,
    ]
    lines = sweep((*ARMS, "dedicated-stream:twin")[:2], (8, 1024, 2**20, 2**24))
    for fields, of_run in ((meta(cases=3), entries), (meta(), lines), (meta(launches=2, cases=4), [*lines, *ends])):
        seeds.append({RUN: dumped(fields), SAMPLES: "".join(map(dump, of_run)).encode()})
    for directory in sorted((ROOT / "results").glob("*/samples.jsonl")):
        with directory.open("rb") as opened:
            first = [_shortened(line) for line, _ in zip(opened, range(20), strict=False)]
        seeds.append({RUN: (directory.parent / RUN).read_bytes(), SAMPLES: b"".join(first)})
    return seeds


def resumed_seeds() -> Sequence[Files]:
    """Return runs with missing cases, with every kind of option."""
    seeds: list[Files] = []
    layers: tuple[dict[str, object], ...] = (
        {},
        {"sizes": "8,1K", "launches": 3, "collectives": "all", "variables": {"NCCL_ALGO": "Ring"}},
        {"user_arms": parse_arm_options(["mine=stream-free,NCCL_ALGO=Ring"]), "rounds": 5, "max_rounds": 9},
        {"arms": "coordinator,torch", "routes": "eager=torch", "placements": "in-place", "dtypes": "half,float"},
    )
    for layer in layers:
        config = resolve("cpu", layer)
        plan = make_plan(config, 2)
        facts = {"mode": LAUNCHED, "world_size": 2, "nproc": 2, "nnodes": 1}
        fields = new_meta(
            name="made-up",
            started="2026-11-23T04:54:58+00:00",
            config=config.to_mapping(),
            launch=facts,
            cases=len(plan.cases),
            left_out=plan.left_out,
            environment={"hostname": "vm"},
        )
        lines = [CaseEnd(case=planned.case, launch=1) for planned in plan.cases[:2]]
        seeds.append({RUN: dumped(fields), SAMPLES: "".join(map(dump, lines)).encode()})
    return seeds


def _shortened(line: bytes) -> bytes:
    """Return a line with the first seven rounds, so that more inputs are read in a second."""
    value = json.loads(line)
    return dumped({key: item[:7] if isinstance(item, list) else item for key, item in value.items()}) + b"\n"


def summary_seeds() -> Sequence[Files]:
    files = (ROOT / "results").glob("*/summary.csv")
    return [{"summary.csv": b"".join(file.read_bytes().splitlines(keepends=True)[:20])} for file in sorted(files)]


def import_seeds() -> Sequence[Files]:
    return [{file.name: file.read_bytes()} for file in FILES]


def verification_seeds() -> Sequence[Files]:
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        config = resolve_verification("cpu", {})
        findings = make_findings(config)
        write_verification(directory, config, [*findings[:5], *findings[-3:]])
        return [{name: (directory / name).read_bytes() for name in (VERIFICATION, FINDINGS)}]


def toml_seeds() -> Sequence[Files]:
    user_arms = (
        b'[[user_arms]]\nname = "mine"\ntarget = "a.py:b"\norder = "current"\nvariables = {NCCL_ALGO = "Ring"}\n'
    )
    files = [file for file in sorted((ROOT / "configs").glob("*.toml")) if file.stem != "limits"]
    return [{"mine.toml": file.read_bytes()} for file in files] + [{"mine.toml": user_arms}]


def limits_seeds() -> Sequence[Files]:
    return [{"limits.toml": (ROOT / "configs" / "limits.toml").read_bytes()}]


def arm_seeds() -> Sequence[Files]:
    texts = ("mine=a.py:b,order=current,NCCL_ALGO=Ring", "a.py:b", "fast=stream-free,transport=nccl4py,library=/a.so")
    return [{"arm": text.encode()} for text in (*texts, "\n".join(texts))]


def recording_seeds() -> Sequence[Files]:
    return [{name: content} for name, content in recordings.files().items()]
