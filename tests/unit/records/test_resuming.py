"""Which machine may continue a record, and that only one command at a time may do so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nccl_bench import __version__
from nccl_bench.errors import UsageError
from nccl_bench.records.environment import collect
from nccl_bench.records.resuming import locked, refuse_changes

ENVIRONMENT: Mapping[str, Any] = {
    "hostname": "node0",
    "packages": {"torch": "2.11.0"},
    "variables": {"NCCL_ALGO": "Ring"},
    "gpus": [{"name": "H200", "uuid": "GPU-1", "driver": "570", "sm_clock_mhz": 1980}],
    "topology": "GPU0",
}


def test_the_same_machine_with_the_same_versions_may_continue() -> None:
    refuse_changes(Path("there"), {"version": __version__, "environment": collect()}, collect())
    warm = {**ENVIRONMENT, "gpus": [{**ENVIRONMENT["gpus"][0], "sm_clock_mhz": 345}], "topology_error": "timeout"}
    refuse_changes(Path("there"), {"version": __version__, "environment": ENVIRONMENT}, warm)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"hostname": "node1"}, "hostname is node1, and was node0"),
        ({"packages": {"torch": "2.13.0"}}, "packages torch is 2.13.0, and was 2.11.0"),
        ({"variables": {}}, "variables NCCL_ALGO is not known, and was Ring"),
        ({"variables": {**ENVIRONMENT["variables"], "NCCL_DEBUG": "INFO"}}, "NCCL_DEBUG is INFO, and was not known"),
        ({"gpus": [{**ENVIRONMENT["gpus"][0], "uuid": "GPU-2"}]}, "gpus 0 uuid is GPU-2, and was GPU-1"),
        ({"gpus": ENVIRONMENT["gpus"] * 2}, "gpus 1 uuid is GPU-1, and was not known"),
    ],
)
def test_another_machine_or_version_or_setting_is_refused_by_name(change: Mapping[str, object], text: str) -> None:
    with pytest.raises(UsageError, match="Resume it as it was") as caught:
        refuse_changes(Path("there"), {"version": __version__, "environment": ENVIRONMENT}, {**ENVIRONMENT, **change})
    assert text in str(caught.value)
    assert "hostname" not in str(caught.value) or "hostname" in change


def test_another_version_of_the_tool_is_refused() -> None:
    with pytest.raises(UsageError, match=rf"nccl-bench is {__version__}, and was 0\.0\.1"):
        refuse_changes(Path("there"), {"version": "0.0.1", "environment": ENVIRONMENT}, ENVIRONMENT)


def test_only_one_command_at_a_time_writes_a_record_and_its_end_frees_the_record(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    hold = f"import fcntl; file = open({str(tmp_path / 'file')!r}); fcntl.flock(file, fcntl.LOCK_EX); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(UsageError, match="another command writes"), locked(tmp_path / "file"):
            pass
        other.kill()
        other.wait()
    with locked(tmp_path / "file"), pytest.raises(UsageError), locked(tmp_path / "file"):
        pass
