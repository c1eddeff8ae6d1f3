"""Imports the target of a user arm and ends, as ``python -m nccl_bench.user_arms.trial_import TARGET [TREE]``.

``--dry-run`` starts this module in the interpreter of the arm, so that the command itself runs no code of the user.
"""

import sys

from nccl_bench.errors import SetupError
from nccl_bench.user_arms.loading import load_target


def main(target: str, tree: str | None = None) -> int:
    """Import ``target``. Return 0, or write the reason to standard error and return the exit code of the error."""
    try:
        load_target(target, tree)
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)  # noqa: T201 - the command reads the last line
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
