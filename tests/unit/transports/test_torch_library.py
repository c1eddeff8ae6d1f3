"""The libnccl that a linked library such as torch calls: that of its RPATH, or a preloaded one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fake_nccl import build

REPOSITORY = Path(__file__).parents[3]
# A stand-in for the library of torch that calls NCCL.
CALLER = "int ncclGetVersion(int *version); int called(void) { int v; ncclGetVersion(&v); return v; }"
SHOW = """
import ctypes, sys
from nccl_bench.transports.nccl_library import find_library, loaded_copies
from nccl_bench.transports.torch_library import torch_library
caller = ctypes.CDLL(sys.argv[1]) if sys.argv[1:] else None
print(torch_library(), caller and caller.called(), *loaded_copies())
"""


def libraries(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Return torch's libnccl (2.28.9), an older one (2.12.12), and a caller whose RPATH names the folder of torch's."""
    ours, older = tmp_path / "ours", tmp_path / "older"
    ours.mkdir()
    older.mkdir()
    torchs, old = build(ours), build(older, "-DOLD")
    caller = tmp_path / "libtorch_cuda.so"
    source = tmp_path / "caller.c"
    source.write_text(CALLER)
    link = [f"-L{ours}", "-l:libnccl.so.2", f"-Wl,-rpath,{ours},--disable-new-dtags,-soname,{caller.name}"]
    subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(caller), *link], check=True)
    return torchs, old, caller


def shown(*arguments: Path, **variables: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **variables}
    command = [sys.executable, "-S", "-c", SHOW, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_a_preloaded_library_replaces_that_of_the_rpath_and_no_second_copy_is_loaded(tmp_path: Path) -> None:
    torchs, old, caller = libraries(tmp_path)
    assert shown(caller) == f"{torchs} 22809 {torchs}"
    assert shown(caller, LD_PRELOAD=str(old)) == f"{old} 21212 {old}"
    # This variable has no effect, because an RPATH goes before it.
    assert shown(caller, LD_LIBRARY_PATH=str(old.parent)) == f"{torchs} 22809 {torchs}"


def test_without_a_library_that_calls_nccl_there_is_none(fake_nccl_path: Path) -> None:
    assert shown() == "None None"
    assert shown(LD_PRELOAD=str(fake_nccl_path)) == f"{fake_nccl_path} None {fake_nccl_path}"


@pytest.mark.parametrize("broken", ["absent.so", "text.so"])
def test_a_library_that_cannot_be_preloaded_changes_nothing(tmp_path: Path, broken: str) -> None:
    torchs, _, caller = libraries(tmp_path)
    (tmp_path / "text.so").write_text("no library")
    assert shown(caller, LD_PRELOAD=str(tmp_path / broken)) == f"{torchs} 22809 {torchs}"
