"""The specification of a launch of a verification, written by one process and read by another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nccl_bench.config.verification import resolve_verification
from nccl_bench.plan.verification import group_by_launch
from nccl_bench.verify.spec import VerificationSpec


def test_a_specification_is_read_as_it_was_written(tmp_path: Path) -> None:
    options = {"arms": "coordinator", "routes": "graph=torch", "nccl_library": "/opt/libnccl.so.2"}
    config = resolve_verification("cuda", options)
    spec = VerificationSpec(config=config, arm_probes=group_by_launch(config)[0], findings="there")
    assert (spec.scratch, spec.first) == (None, 0)
    moved = replace(spec, first=2).for_launch("/scratch")
    assert moved == replace(spec, scratch="/scratch", first=2)
    for written in (spec, moved):
        written.write(tmp_path / "spec.json")
        assert VerificationSpec.read(tmp_path / "spec.json") == written
