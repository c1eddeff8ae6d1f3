"""The configuration of a verification: its defaults, its options, and the values that it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from nccl_bench.catalog.arms import ARMS
from nccl_bench.catalog.extras import EXTRA_VERSIONS
from nccl_bench.catalog.probes import DETECTOR, PROBES
from nccl_bench.catalog.routes import Backend, Mode
from nccl_bench.config.verification import VerifyConfig, resolve_verification
from nccl_bench.errors import UsageError
from tests.support.fake_nccl4py import pretend_version


def test_the_default_is_every_arm_of_the_device_and_every_probe() -> None:
    assert resolve_verification("cpu") == VerifyConfig(
        device="cpu",
        arms=tuple(name for name in ARMS if name not in (DETECTOR, "nccl4py")),
        user_arms=(),
        probes=tuple(PROBES),
        routes=(),
        nccl_library=None,
        transport="gloo",
        timeout_s=60.0,
    )


@pytest.mark.parametrize("options", [{}, {"arms": "all"}])
@pytest.mark.parametrize(
    ("version", "is_verified"), [(EXTRA_VERSIONS["nccl4py"], True), ("0.0.1", False), (None, False)]
)
@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_nccl4py_is_verified_by_default_on_gpus_if_the_right_version_is_installed(
    device: str, version: str | None, is_verified: bool, options: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_version(monkeypatch, version)
    arms = resolve_verification(device, options).arms
    assert ("nccl4py" in arms) == (is_verified and device == "cuda")
    assert set(ARMS) - set(arms) - {"nccl4py"} == {DETECTOR}


def test_nccl4py_can_be_named_though_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    # The arm then says what to install.
    pretend_version(monkeypatch, None)
    assert resolve_verification("cuda", {"arms": "nccl4py"}).arms == ("nccl4py",)


def test_options_choose_arms_and_probes_and_override_routes() -> None:
    config = resolve_verification(
        "cuda",
        {
            "arms": "coordinator, torch",
            "probes": "state,producer",
            "routes": "eager=communicator",
            "nccl_library": "/opt/libnccl.so.2",
            "timeout_s": 3.0,
        },
    )
    assert (config.arms, config.probes) == (("coordinator", "torch"), ("state", "producer"))
    assert (config.device_spec.name, config.nccl_library, config.timeout_s) == ("cuda", "/opt/libnccl.so.2", 3.0)
    assert config.routing["all_reduce"][Mode.EAGER] is Backend.COMMUNICATOR
    assert resolve_verification("cpu").routing["all_reduce"][Mode.EAGER] is Backend.TORCH


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arms": "stream-fre"}, r"arms has 'stream-fre': did you mean 'stream-free'\? Allowed are"),
        ({"arms": DETECTOR}, f"arms has '{DETECTOR}'"),
        ({"arms": ""}, "arms has ''"),
        ({"probes": "producers"}, r"probes has 'producers': did you mean 'producer'\? Allowed are"),
        ({"routes": "eager"}, r"'eager': give \[OPERATION.\]MODE=BACKEND"),
        ({"routes": "eager=torch", "arms": "torch"}, "only coordinator arms have routes"),
        ({"nccl_library": "libnccl.so"}, "the device cpu does not use NCCL"),
        ({"timeout_s": 0.0}, r"timeout_s \(--timeout\) is 0.0"),
        ({"timeout_s": float("nan")}, r"timeout_s \(--timeout\) is nan"),
    ],
)
def test_an_unknown_value_is_refused_with_the_allowed_ones(options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve_verification("cpu", options)
