"""One rank of a proof that knows the mutants."""

from __future__ import annotations

import sys

from nccl_bench.verify.worker import main
from tests.support.defective_communicators import plant

if __name__ == "__main__":
    plant()
    main(sys.argv[1])
