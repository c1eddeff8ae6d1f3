"""The machine that may continue a record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nccl_bench import __version__
from nccl_bench.errors import UsageError
from nccl_bench.records.environment import collect
from nccl_bench.records.resuming import refuse_changes

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
    logging = {**ENVIRONMENT, "variables": {"NCCL_ALGO": "Ring", "NCCL_DEBUG": "INFO", "NCCL_DEBUG_FILE": "log"}}
    refuse_changes(Path("there"), {"version": __version__, "environment": ENVIRONMENT}, logging)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"hostname": "node1"}, "hostname is node1, and was node0"),
        ({"packages": {"torch": "2.13.0"}}, "packages torch is 2.13.0, and was 2.11.0"),
        ({"variables": {}}, "variables NCCL_ALGO is not known, and was Ring"),
        ({"variables": {**ENVIRONMENT["variables"], "NCCL_NTHREADS": "64"}}, "NCCL_NTHREADS is 64, and was not known"),
        ({"gpus": [{**ENVIRONMENT["gpus"][0], "uuid": "GPU-2"}]}, "gpus 0 uuid is GPU-2, and was GPU-1"),
        ({"gpus": ENVIRONMENT["gpus"] * 2}, "gpus 1 uuid is GPU-1, and was not known"),
    ],
)
def test_another_machine_or_version_or_setting_is_refused_by_name(change: Mapping[str, object], text: str) -> None:
    with pytest.raises(UsageError, match=r"Restore what differs and resume, or start again") as caught:
        refuse_changes(Path("there"), {"version": __version__, "environment": ENVIRONMENT}, {**ENVIRONMENT, **change})
    assert text in str(caught.value)
    assert "hostname" not in str(caught.value) or "hostname" in change


def test_another_version_of_the_tool_is_refused() -> None:
    with pytest.raises(UsageError, match=rf"nccl-bench is {__version__}, and was 0\.0\.1"):
        refuse_changes(Path("there"), {"version": "0.0.1", "environment": ENVIRONMENT}, ENVIRONMENT)


def test_a_new_kernel_is_named_once() -> None:
    before, after = ({**ENVIRONMENT, "kernel": name, "platform": f"Linux-{name}-x86_64"} for name in ("5.1", "5.2"))
    with pytest.raises(UsageError, match=r"settings: kernel is 5\.2, and was 5\.1\. Restore"):
        refuse_changes(Path("there"), {"version": __version__, "environment": before}, after)
