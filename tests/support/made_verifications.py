"""Verifications whose probes passed, failed, raced or broke as a test wants, and their text in the terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from nccl_bench.catalog.arms import ARMS
from nccl_bench.catalog.extras import has_extra
from nccl_bench.catalog.probes import DETECTOR, Place
from nccl_bench.config.verification import resolve_verification
from nccl_bench.plan.verification import ArmProbe, group_by_launch
from nccl_bench.report.verification import TerminalVerification
from nccl_bench.verify.findings import Finding
from nccl_bench.verify.judgement import Verification, judge

INSTALLED = [name for name, arm in ARMS.items() if arm.extra is None or has_extra(arm.extra)]
# The detail of each arm and probe that failed.
Details = Mapping[tuple[str, str], str]
CAUGHT_BY_ORDER: Details = {(DETECTOR, "order"): "late"}
CAUGHT: Details = {**CAUGHT_BY_ORDER, (DETECTOR, "producer"): "late", (DETECTOR, "consumer"): "late"}
WRONG = "side stream, all_reduce 1K, rank 0: 3 of 256 elements are wrong; element 0 is 202 and must be 433"
KILLED = "rank 1 on node0 was killed by SIGABRT:\nterminate called\n  caf\u00e9 \x1b[31m " + "x" * 200


def make_verification(
    failed: Details = CAUGHT,
    *,
    device: str = "cuda",
    arms: str = "all",
    probes: str = "all",
    broken: Iterable[tuple[str, str]] = (),
    raceless: Iterable[tuple[str, str]] = (),
    quiet: Mapping[tuple[str, str], tuple[Place, ...]] = {},
    leaks: Mapping[tuple[str, str], tuple[str, ...]] = {},
    ran: int | None = None,
) -> Verification:
    """Return a verification in which ``failed`` failed, by a race unless it is in ``raceless`` or ``broken``.

    Only the first ``ran`` of its probes ran.
    """
    config = resolve_verification(device, {"arms": arms, "probes": probes})
    cells = [cell for group in group_by_launch(config) for cell in group]
    assert {ArmProbe(arm=arm, probe=probe) for arm, probe in failed if probe != "order"} <= set(cells)
    return judge(
        config,
        4,
        [
            Finding(
                arm=cell.arm,
                probe=cell.probe,
                trials=48,
                failed=36 if (cell.arm, cell.probe) in failed else 0,
                raced=36 if (cell.arm, cell.probe) in failed.keys() - {*broken, *raceless} else 0,
                quiet=quiet.get((cell.arm, cell.probe), ()),
                detail=failed.get((cell.arm, cell.probe)),
                broken=(cell.arm, cell.probe) in broken,
                leaks=leaks.get((cell.arm, cell.probe), ()),
            )
            for cell in cells[:ran]
        ],
    )


def shown(verification: Verification, width: int = 80) -> str:
    """Return the text of ``verification`` in a terminal without colours."""
    return TerminalVerification(width=width, styled=False).render(verification)


def table_of(text: str) -> str:
    """Return the table in ``text``."""
    return next(part for part in text.split("\n\n") if re.search(r"(?m)^arm ", part))


def flat(text: str) -> str:
    """Return ``text`` without its line breaks."""
    return " ".join(text.split())


FAILING: Details = {**CAUGHT, ("torch", "many"): KILLED, ("stream-free", "producer"): WRONG}
EVERYTHING = (
    make_verification(),
    make_verification(device="cpu"),
    make_verification(FAILING, broken=[("torch", "many")]),
    make_verification({key: detail for key, detail in FAILING.items() if key != (DETECTOR, "consumer")}),
    make_verification({**CAUGHT, (DETECTOR, "consumer"): KILLED}, broken=[(DETECTOR, "consumer")]),
    make_verification(FAILING, broken=[("torch", "many")], ran=20),
)
