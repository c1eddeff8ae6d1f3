"""Every copy of libnccl on a machine is found, and a process with two copies is seen."""

from __future__ import annotations

import os
from pathlib import Path

from nccl_bench.doctor.examination import examine
from tests.support.planted_machine import harm, planted


def test_every_copy_of_libnccl_is_found_with_its_version_and_its_place(tmp_path: Path) -> None:
    def copy(*parts: str, version: str) -> str:
        path = tmp_path.joinpath("copies", *parts, "libnccl.so.2")
        path.parent.mkdir(parents=True)
        path.write_bytes(f"x\0NCCL version {version}+cuda12.4\0NCCL_ALGO\0".encode())
        return os.path.realpath(path)

    wheel = copy("site", "nvidia", "nccl", "lib", version="2.27.7")
    of_path = copy("path", version="2.26.2")
    preloaded = copy("preload", version="2.25.1")
    conda = copy("conda", "lib", version="2.24.3")
    engine = copy("engine", version="2.23.4")
    system = copy("system", version="2.22.3")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ldconfig").write_text(f"#!/bin/sh\necho '	libnccl.so.2 (libc6,x86-64) => {system}'\n")
    (programs / "ldconfig").chmod(0o755)
    environ = {
        "PATH": str(programs),
        "LD_LIBRARY_PATH": f"/nowhere:{os.path.dirname(of_path)}",
        "LD_PRELOAD": preloaded,
        "CONDA_PREFIX": str(tmp_path / "copies" / "conda"),
        "SGLANG_NCCL_SO_PATH": engine,
    }
    site = (str(tmp_path / "copies" / "site"),)
    machine = planted(
        tmp_path, environ=environ, python_path=site, torch={"library": preloaded, "torch_library": preloaded}
    )
    seen = [each.seen for each in examine(machine).diagnoses if each.subject == "libnccl"]
    for text in (
        f"NCCL 2.27.7+cuda12.4: {wheel} (a wheel)",
        f"NCCL 2.26.2+cuda12.4: {of_path} (LD_LIBRARY_PATH)",
        f"NCCL 2.25.1+cuda12.4: {preloaded} (LD_PRELOAD, used by nccl-bench, torch)",
        f"NCCL 2.24.3+cuda12.4: {conda} (conda)",
        f"NCCL 2.23.4+cuda12.4: {engine} (SGLANG_NCCL_SO_PATH)",
        f"NCCL 2.22.3+cuda12.4: {system} (system)",
    ):
        assert text in seen
    assert any("SGLang's pynccl and torch call different NCCLs" in each.effect for each in harm(machine))


def test_two_copies_in_one_process_are_seen(tmp_path: Path) -> None:
    copies = [tmp_path / name for name in ("a.so", "b.so")]
    for file in copies:
        file.write_bytes(b"NCCL version 2.20.5+cuda12.4\0")
    (seen,) = harm(planted(tmp_path, torch={"loaded": tuple(map(str, copies))}))
    assert "2 copies of libnccl" in seen.seen
    assert "library=PATH" in seen.command
