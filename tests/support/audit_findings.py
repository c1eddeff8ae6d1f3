"""Findings of an audit, made without a watch."""

from __future__ import annotations

from typing import Any

from nccl_bench.audit.findings.record import Amount, FoundAccess, FoundRace, Line, RankFindings, WatchedSource
from nccl_bench.audit.order.races import AccessMode, Missing, RaceKind


def line(path: str = "engine/model.py", number: int = 88, function: str = "forward", source: str = "x.mul_(2)") -> Line:
    return Line(path=path, number=number, function=function, source=source)


def access(work: str = "aten::mul_", **fields: Any) -> FoundAccess:
    known: dict[str, Any] = {
        "is_collective": False,
        "mode": AccessMode.WRITE,
        "stream": "the default stream of cuda:0",
        "device": 0,
        "lines": (line(),),
    }
    return FoundAccess(work=work, **{**known, **fields})


def collective(**fields: Any) -> FoundAccess:
    known: dict[str, Any] = {
        "is_collective": True,
        "mode": AccessMode.READ,
        "stream": "side stream 1 of cuda:0",
        "is_side": True,
        "lines": (line("engine/comm.py", 20, "reduce", "comm.all_reduce(x)"), line()),
    }
    return access("ncclAllReduce", **{**known, **fields})


def race(
    first: FoundAccess | None = None,
    second: FoundAccess | None = None,
    missing: Missing = Missing.FORK,
    kind: RaceKind = RaceKind.KERNELS,
    **fields: Any,
) -> FoundRace:
    known: dict[str, Any] = {"overlap_bytes": 4096, "ranks": (0,)}
    return FoundRace(
        kind=kind,
        missing=missing,
        first=first or access(),
        second=second or collective(),
        **{**known, **fields},
    )


def rank_findings(rank: int, *races: FoundRace, collectives: int = 12) -> RankFindings:
    return RankFindings(
        rank=rank,
        races=races,
        sources=(
            WatchedSource(name="torch operators", sees="every operator", blind_to=("Kernels without an operator.",)),
            WatchedSource(name="CUDA streams", sees="events", reason_off="torch sees no GPU"),
        ),
        amount=Amount(
            actions=1500,
            works=1000,
            collectives={"ncclAllReduce": collectives} if collectives else {},
            program_s=2.5,
            judging_s=0.25,
            remembered=40,
            peak_bytes=512 * 1024**2,
        ),
    )
