"""A rank program: the verification's worker, which also knows the defective communicators."""

from __future__ import annotations

import sys

from nccl_bench.verify.worker import main
from tests.support.defective_communicators import add_defective_arms

if __name__ == "__main__":
    add_defective_arms()
    main(sys.argv[1])
