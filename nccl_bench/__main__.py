"""``python -m nccl_bench``, and the console script."""

from __future__ import annotations

from nccl_bench.cli import main

if __name__ == "__main__":
    main()
