"""A libnccl against a copy of it, each in its own processes: every arm calls the file that it asks for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from nccl_bench.errors import ExitCode
from nccl_bench.records.schema import Samples, Status
from nccl_bench.transports.nccl_library import find_library
from nccl_bench.transports.torch_library import torch_library
from tests.support.command import gpu_sandbox

pytestmark = pytest.mark.timeout(400)


def test_torch_calls_the_library_that_this_process_has_loaded() -> None:
    torch.cuda.nccl.version()
    path = torch_library()
    assert path is not None
    assert Path(path).samefile(find_library().path)


def test_an_arm_of_each_kind_calls_the_copy_that_it_asks_for(tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "libnccl.so.2"
    copy.parent.mkdir()
    shutil.copy(find_library().path, copy)
    sandbox = gpu_sandbox(tmp_path)
    arms = ("--arms", "stream-free,torch", "--baseline", "stream-free")
    new = ("--arm", f"new=stream-free,library={copy}", "--arm", f"new-torch=torch,library={copy}")
    few = ("--sizes", "8,1M", "--timing", "eager,graph", "--rounds", "3", "--max-rounds", "3", "--nproc", "1")
    ended = sandbox.nccl_bench("run", *arms, *new, *few)
    assert ended.code == ExitCode.OK, ended.stderr
    run = sandbox.only_run()
    lines = [line for line in run.lines if isinstance(line, Samples)]
    assert {line.arm for line in lines} == {"stream-free", "torch", "new", "new-torch", "stream-free:twin"}
    assert all(line.status is Status.OK for line in lines)
    worker = run.meta["worker"]
    paths = {library["arm"]: library["path"] for library in worker["libraries"]}
    assert {arm for arm, path in paths.items() if path == str(copy)} == {"new", "new-torch"}
    assert paths["stream-free"] == paths["torch"] == paths["stream-free:twin"]
    assert len({library["sha256"] for library in worker["libraries"]}) == 1
    assert worker["other_nccl_libraries"] == []
    assert "new, new-torch and stream-free call copies of the same file" in " ".join(ended.stdout.split())
