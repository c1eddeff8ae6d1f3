"""``python -m nccl_bench``, and the console script."""

from __future__ import annotations

import sys


def main() -> None:
    """The entry point: a Ctrl-C is a message and an exit code from here on, while modules are imported too."""
    try:
        from nccl_bench.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        # As a plain number: nothing of ours may have been imported yet.
        sys.stderr.write("nccl-bench: interrupted\n")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
