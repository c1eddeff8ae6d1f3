"""``python -m nccl_bench``, and the console script."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; from the first import on, a Ctrl-C is one message and an exit code."""
    try:
        from nccl_bench.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        # A plain number: the import of nccl_bench.errors may be what was interrupted.
        sys.stderr.write("nccl-bench: interrupted\n")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
