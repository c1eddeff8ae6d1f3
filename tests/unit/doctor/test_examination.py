"""An examination of a good machine, and of one in which the examination of a subject fails."""

from __future__ import annotations

import os
from pathlib import Path

from nccl_bench.doctor.diagnosis import Severity
from nccl_bench.doctor.examination import SUBJECTS, examine
from nccl_bench.doctor.sockets import LookUp
from nccl_bench.doctor.torch_facts import TorchFacts
from nccl_bench.errors import ExitCode
from nccl_bench.records.nvml import Nvml
from tests.support.planted_machine import harm, planted, variables

CHANGES = Severity.CHANGES


def test_values_of_unknown_variables_are_not_shown(tmp_path: Path) -> None:
    files = {"/etc/nccl.conf": "NCCL_SECRET_TOKEN=hunter2-file\n"}
    environ = variables(NCCL_SECRET_TOKEN="hunter2-variable", LD_PRELOAD="/nowhere/hunter2-variable.so")
    examination = examine(planted(tmp_path, files=files, **environ))
    assert "NCCL_SECRET_TOKEN" in str(examination)
    assert "hunter2-file" not in str(examination)
    assert "hunter2-variable'" not in str(examination)


def test_nothing_is_wrong_with_a_good_machine_and_its_facts_are_listed(tmp_path: Path) -> None:
    examination = examine(planted(tmp_path, **variables(NCCL_SOCKET_IFNAME="eth", NCCL_VERSION="2.28.9-1")))
    assert {each.severity for each in examination.diagnoses} == {Severity.FINE}
    assert examination.exit_code is ExitCode.OK
    assert {each.subject for each in examination.diagnoses} == set(SUBJECTS)
    text = "\n".join(each.seen for each in examination.diagnoses)
    library = os.path.realpath(tmp_path / "lib" / "libnccl.so.2")
    for fact in (
        "2x NVIDIA H200",
        "driver 580.65, which supports CUDA up to 13.0",
        "each GPU has 18 active NVLinks",
        "pairs of GPUs: 1 by NVLink",
        "torch 2.11.0, for CUDA 13.0",
        f"NCCL 2.28.9+cuda13.0: {library} (loaded by a process that imports torch, used by nccl-bench, torch)",
        "node7 has the address 10.0.0.7, from /etc/hosts: 10.0.0.7",
    ):
        assert fact in text


def test_a_machine_without_gpus_is_fine(tmp_path: Path) -> None:
    nvml = Nvml(library=None)
    torch = TorchFacts(torch="2.13.0+cpu", file="/torch/__init__.py", library_problem="no libnccl was found")
    assert harm(planted(tmp_path, nvml=nvml, torch=torch, library=b"")) == []


def test_a_subject_that_fails_is_a_diagnosis_and_the_others_are_still_examined(tmp_path: Path) -> None:
    def fail(_host: str) -> LookUp:
        raise RuntimeError("planted")

    (seen,) = harm(planted(tmp_path, look_up=fail))
    assert (seen.severity, seen.subject) == (CHANGES, "host name")
    assert "RuntimeError: planted" in seen.seen
