"""The directory in which the ranks of a node meet for an audit, if another launcher has started them."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil

from nccl_bench.errors import SetupError
from nccl_bench.launch.launchers import Attachment


def meeting_directory(attachment: Attachment) -> Path:
    """Return the directory that all ranks of this node have in common. The directory is made if it does not exist.

    Raises ``SetupError`` if the path is no directory, or if another user could write into the directory.
    """
    # The ranks of a node have the same parent: torchrun's agent, or the daemon of srun or mpirun.
    parent = psutil.Process(os.getppid())
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    name = f"nccl-bench-audit-{parent.pid}-{parent.create_time():.2f}-{attachment.master_port}-{restart}"
    path = Path(tempfile.gettempdir()) / name
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    state = path.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid() or state.st_mode & 0o077:
        raise SetupError(f"{path} is not a directory of this user alone: remove it, or set TMPDIR to another directory")
    return path
