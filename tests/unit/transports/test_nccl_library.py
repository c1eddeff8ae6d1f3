from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nccl_bench.errors import SetupError
from nccl_bench.transports.nccl_library import (
    LibrarySource,
    find_library,
    loads_by_path,
    refuse_no_library,
    unread_variables,
)

PRELUDE = """
import ctypes, sys
from nccl_bench.transports import nccl_library
from nccl_bench.transports.nccl_library import find_library, loaded_copies
def show(library): print(library.source.value, library.path)
"""
REPOSITORY = Path(__file__).parents[3]


def _python(code: str, *path: Path, **environment: str) -> list[str]:
    """Return the lines that ``code`` prints in a process that has loaded no libnccl and sees no wheel (-S)."""
    env = {name: value for name, value in os.environ.items() if name != "NCCL_BENCH_NCCL_LIBRARY"}
    env["PYTHONPATH"] = os.pathsep.join(map(str, (REPOSITORY, *path)))
    done = subprocess.run(
        [sys.executable, "-S", "-c", PRELUDE + code], env={**env, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def _copy(library: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    return Path(shutil.copy(library, folder))


@pytest.fixture
def named(fake_nccl_path: Path, tmp_path: Path) -> Path:
    return _copy(fake_nccl_path, tmp_path / "named")


@pytest.fixture
def site(fake_nccl_path: Path, tmp_path: Path) -> Path:
    """Return a folder like site-packages, with the wheel in it."""
    _copy(fake_nccl_path, tmp_path / "site" / "nvidia" / "nccl" / "lib")
    return tmp_path / "site"


@pytest.fixture
def system(fake_nccl_path: Path, tmp_path: Path) -> Path:
    return _copy(fake_nccl_path, tmp_path / "system").parent


def test_the_argument_is_used_before_all_other_places(named: Path, fake_nccl_path: Path, site: Path) -> None:
    code = f"ctypes.CDLL({str(fake_nccl_path)!r}); show(find_library({str(named)!r}))"
    lines = _python(code, site, NCCL_BENCH_NCCL_LIBRARY=str(fake_nccl_path))
    assert lines == [f"--nccl-library {named}"]


def test_the_library_of_an_arm_is_used_before_the_argument(named: Path, fake_nccl_path: Path) -> None:
    lines = _python(f"show(find_library({str(fake_nccl_path)!r}, of_arm={str(named)!r}))")
    assert lines == [f"the key library of an arm {named}"]


@pytest.mark.parametrize("content", [b"", b"no library", None])
def test_a_file_that_is_no_libnccl_is_refused_without_loading_it(
    tmp_path: Path, named: Path, content: bytes | None
) -> None:
    file = tmp_path / "libnccl.so.2"
    reason = "which is not a file" if content is None else "which has no ncclGetVersion"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SetupError, match=f"^the key library of an arm names '{file}', {reason}"):
        refuse_no_library(str(file), LibrarySource.ARM)
    refuse_no_library(str(named), LibrarySource.ARM)


def test_the_variable_is_used_before_the_loaded_copy(named: Path, fake_nccl_path: Path, site: Path) -> None:
    code = f"ctypes.CDLL({str(fake_nccl_path)!r}); show(find_library())"
    lines = _python(code, site, NCCL_BENCH_NCCL_LIBRARY=str(named))
    assert lines == [f"NCCL_BENCH_NCCL_LIBRARY {named}"]


def test_the_loaded_copy_is_used_before_the_wheel(fake_nccl_path: Path, site: Path) -> None:
    code = f"ctypes.CDLL({str(fake_nccl_path)!r}); show(find_library())"
    assert _python(code, site, NCCL_BENCH_NCCL_LIBRARY="") == [f"already loaded {fake_nccl_path}"]


def test_the_wheel_is_used_before_the_system(site: Path, system: Path) -> None:
    lines = _python("show(find_library())", site, LD_LIBRARY_PATH=str(system))
    assert lines == [f"wheel {site}/nvidia/nccl/lib/libnccl.so.2"]


def test_the_system_is_searched_last_and_its_file_is_named(system: Path) -> None:
    lines = _python("show(find_library())", LD_LIBRARY_PATH=str(system))
    assert lines == [f"system {system}/libnccl.so.2"]


def test_the_system_is_used_if_the_wheel_cannot_be_loaded(site: Path, system: Path) -> None:
    (site / "nvidia/nccl/lib/libnccl.so.2").write_text("not a library")
    lines = _python("show(find_library())", site, LD_LIBRARY_PATH=str(system))
    assert lines == [f"system {system}/libnccl.so.2"]


def test_without_a_library_the_error_lists_every_place_and_what_to_do(site: Path) -> None:
    broken = site / "nvidia/nccl/lib/libnccl.so.2"
    broken.write_text("not a library")
    code = """
real = nccl_library.ctypes.CDLL
def load(name):
    if name == "libnccl.so.2":  # this machine may have one
        raise OSError("libnccl.so.2: no such file")
    return real(name)
nccl_library.ctypes.CDLL = load
try:
    find_library()
except nccl_library.SetupError as error:
    print(error)
"""
    heading, argument, environment, loaded, wheel, system, advice = _python(code, site)
    assert heading.startswith("no libnccl was found")
    assert argument.strip() == "--nccl-library: not given"
    assert environment.strip() == "NCCL_BENCH_NCCL_LIBRARY: not set"
    assert loaded.strip() == "already loaded: none"
    assert wheel.strip().startswith(f"wheel: {broken}: ")
    assert system.strip() == "system: libnccl.so.2: no such file"
    assert "pip install nvidia-nccl-cu13" in advice
    assert "--nccl-library PATH" in advice


def test_a_named_path_that_does_not_exist_is_an_error(
    tmp_path: Path, named: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = tmp_path / "absent.so"
    monkeypatch.setenv("NCCL_BENCH_NCCL_LIBRARY", str(named))
    with pytest.raises(SetupError, match=rf"--nccl-library names '{absent}'.* is not a file"):
        find_library(str(absent))
    monkeypatch.setenv("NCCL_BENCH_NCCL_LIBRARY", str(absent))
    with pytest.raises(SetupError, match=rf"NCCL_BENCH_NCCL_LIBRARY names '{absent}'.* is not a file"):
        find_library()


def test_a_named_path_that_cannot_be_loaded_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "libnccl.so.2"
    broken.write_text("not a library")
    with pytest.raises(SetupError, match=r"--nccl-library names .* which does not load"):
        find_library(str(broken))
    monkeypatch.setenv("NCCL_BENCH_NCCL_LIBRARY", str(broken))
    with pytest.raises(SetupError, match="NCCL_BENCH_NCCL_LIBRARY names"):
        find_library()


def test_a_relative_path_starts_at_the_current_folder(named: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(named.parent)
    assert find_library("libnccl.so.2").path == str(named)


def test_every_copy_is_known_but_no_plug_in(named: Path, fake_nccl_path: Path, tmp_path: Path) -> None:
    plug_in = _copy(fake_nccl_path, tmp_path / "plug-in").rename(tmp_path / "libnccl-net.so")
    code = f"""
ctypes.CDLL({str(plug_in)!r})
print(loaded_copies())
ctypes.CDLL({str(named)!r})
ctypes.CDLL({str(fake_nccl_path)!r})
print(sorted(loaded_copies()))
"""
    assert _python(code) == ["[]", str(sorted([str(named), str(fake_nccl_path)]))]


def test_loads_by_a_path_are_recorded_and_loads_by_a_name_and_plug_ins_are_not(
    named: Path, fake_nccl_path: Path, tmp_path: Path
) -> None:
    plug_in = _copy(fake_nccl_path, tmp_path / "plug-in").rename(tmp_path / "libnccl-net.so")
    with loads_by_path() as loads:
        ctypes.CDLL(str(named))
        ctypes.CDLL(str(plug_in))
        ctypes.cdll.LoadLibrary("libnccl.so.2")
        ctypes.CDLL(None)
        ctypes.cdll.LoadLibrary(str(fake_nccl_path))
    ctypes.CDLL(str(named))
    assert loads == [str(named), str(fake_nccl_path)]


def test_a_plug_in_of_nccl_is_not_used_as_the_library(fake_nccl_path: Path, site: Path, tmp_path: Path) -> None:
    plug_in = _copy(fake_nccl_path, tmp_path / "plug-in").rename(tmp_path / "libnccl-tuner.so")
    code = f"ctypes.CDLL({str(plug_in)!r}); show(find_library())"
    assert _python(code, site)[0].startswith("wheel ")


def test_the_search_loads_no_torch(named: Path) -> None:
    assert _python(f"find_library({str(named)!r}); print('torch' in sys.modules)") == ["False"]


def test_a_variable_whose_name_is_not_in_the_library_is_unread(tmp_path: Path) -> None:
    library = tmp_path / "libnccl.so.2"
    library.write_bytes(b"\0NCCL_MAX_CTAS\0NCCL_GRAPH_STREAM\0")
    names = ["NCCL_GRAPH_STREAM_ORDERING", "NCCL_MAX_CTAS", "NCCL_MAX", "PATH"]
    assert unread_variables(str(library), names) == ["NCCL_GRAPH_STREAM_ORDERING", "NCCL_MAX"]
