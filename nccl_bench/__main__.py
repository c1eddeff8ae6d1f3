"""The program: ``python -m nccl_bench`` and ``nccl-bench`` start here."""

import os
import sys


def main() -> None:
    """Run the command line. A Ctrl-C ends it with one message and an exit code, even during the imports."""
    try:
        _take_current_directory_off_path()
        from nccl_bench.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        # Use a plain number: the Ctrl-C may have interrupted the import of nccl_bench.errors, which names this number.
        sys.stderr.write("nccl-bench: interrupted\n")
        raise SystemExit(130) from None


def _take_current_directory_off_path() -> None:
    """Undo what ``python -m`` does to ``sys.path``: a file ``numpy.py`` in the current directory must not hide numpy.

    The current directory can be the directory that holds this package. Python still finds the package's modules,
    because it searches them in the package's own directory. Import no other module here: it could be the wrong one.
    """
    # With -P or PYTHONSAFEPATH, the first entry comes from PYTHONPATH or from the installation.
    if sys.flags.safe_path or not sys.path:
        return
    try:
        is_current = os.path.samefile(sys.path[0] or os.curdir, os.curdir)
    except OSError:  # an entry that does not exist
        return
    if is_current:
        del sys.path[0]


if __name__ == "__main__":
    main()
