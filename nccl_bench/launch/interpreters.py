"""The interpreter that a user arm names for its processes: whether it can run ranks at all."""

import subprocess
from textwrap import shorten

from nccl_bench.errors import SetupError

_NEED = "give an interpreter of Python 3.11 or later, with torch and numpy"
# Finding a package imports nothing. The empty entry of sys.path is the current directory, which ranks never search.
_QUESTION = (
    "import sys; from importlib.util import find_spec; sys.path[:] = filter(None, sys.path); "
    "print('Python', '%d.%d' % sys.version_info[:2], *(n for n in ('torch', 'numpy') if find_spec(n) is None))"
)
_TIMEOUT_S = 60


def refuse_unfit_interpreter(python: str) -> None:
    """Raise ``SetupError`` if ``python`` does not start, is no Python 3.11 or later, or lacks torch or numpy."""
    try:
        answer = subprocess.run(
            [python, "-c", _QUESTION], check=False, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S
        )
    except OSError as error:
        raise SetupError(f"python is {python!r}, which does not start ({error.strerror}): {_NEED}") from error
    except subprocess.TimeoutExpired as error:
        raise SetupError(f"python is {python!r}, which did not answer within {_TIMEOUT_S} s: {_NEED}") from error
    # The answer is the last line of the output, because a start-up file of the environment may print too.
    words = answer.stdout.strip().rpartition("\n")[2].split()
    if answer.returncode or words[:1] != ["Python"]:
        last = shorten(answer.stderr.strip().rpartition("\n")[2], 80, placeholder=" ...")
        raise SetupError(f"python is {python!r}, which is no Python{f' ({last})' if last else ''}: {_NEED}")
    _, version, *missing = words
    if tuple(map(int, version.split("."))) < (3, 11):
        raise SetupError(f"python is {python!r}, which is Python {version}: {_NEED}")
    if missing:
        raise SetupError(f"python is {python!r}, which has no {' and no '.join(missing)}: {_NEED}")
