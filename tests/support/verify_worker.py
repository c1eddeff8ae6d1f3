"""A rank program: the verification's worker, which also knows the arms with a defect."""

from __future__ import annotations

from nccl_bench.verify import worker
from tests.support.verified_defects import add_defective_arms


def main(spec_file: str) -> None:
    add_defective_arms()
    worker.main(spec_file)
