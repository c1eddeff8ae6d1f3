"""The program: ``python -m nccl_bench`` and ``nccl-bench`` start here."""

import sys


def main() -> None:
    """Run the command line. A Ctrl-C ends it with one message and an exit code, even during the imports."""
    try:
        from nccl_bench.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        # A plain number: the import of nccl_bench.errors, which names it, may have been interrupted.
        sys.stderr.write("nccl-bench: interrupted\n")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
