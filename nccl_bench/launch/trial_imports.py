"""Refuse a user arm whose target cannot be imported, after a trial in a process like the arm's own."""

import os
import subprocess
from collections.abc import Mapping

from nccl_bench.config.user_arms import UserArm
from nccl_bench.config.variables import PRELOAD, preload
from nccl_bench.errors import SetupError
from nccl_bench.launch.config import module_command

# An import of torch takes 2 to 10 s.
_TIMEOUT_S = 120


def refuse_failing_import(user_arm: UserArm, variables: Mapping[str, str]) -> None:
    """Raise ``SetupError`` if the target of ``user_arm`` cannot be imported. All ranks have ``variables``."""
    own = preload(user_arm.library, {**variables, **user_arm.variables}, os.environ)
    target = [user_arm.target, *([] if user_arm.tree is None else [user_arm.tree])]
    module = "nccl_bench.user_arms.trial_import"
    command = module_command(module, *target, python=user_arm.python, lazy=PRELOAD in own)
    try:
        trial = subprocess.run(
            command,
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, **own},
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise SetupError(f"{user_arm.target}: its import did not end within {_TIMEOUT_S} s") from error
    if trial.returncode:
        reason = trial.stderr.strip().rpartition("\n")[2] or f"its import ended with exit code {trial.returncode}"
        raise SetupError(reason)
