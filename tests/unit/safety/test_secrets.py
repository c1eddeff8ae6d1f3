"""The values of variables that may be recorded, and the masking in messages."""

from __future__ import annotations

import sys

import pytest

from nccl_bench.catalog.variables import KNOWN_VARIABLES
from nccl_bench.safety.secrets import MASK, masked, recordable, recordable_settings, without_credentials

TOKEN = "pl4nted-t0ken-9f3b"


@pytest.mark.parametrize("name", ["NCCL_SECRET_TOKEN", "TORCH_NCCL_PASSWORD", "RCCL_KEY"])
def test_a_variable_that_only_looks_like_a_setting_is_recorded_without_its_value(name: str) -> None:
    assert recordable_settings({name: TOKEN, "NCCL_ALGO": "Ring"}) == {name: "set", "NCCL_ALGO": "Ring"}


def test_other_variables_are_recorded_only_if_they_are_known() -> None:
    assert recordable_settings(
        {"CUDA_SECRET": TOKEN, "API_TOKEN": TOKEN, "CUDA_LAUNCH_BLOCKING": "1", "LD_PRELOAD": "/a.so"}
    ) == {"CUDA_LAUNCH_BLOCKING": "1"}


def test_values_that_the_user_gave_appear_only_for_known_names() -> None:
    given = {"WANDB_API_KEY": TOKEN, "NCCL_ALGO": "Ring", "LD_BIND_NOW": "1", "NCCL_COMM_ID": f"http://a:{TOKEN}@b"}
    assert recordable(given) == {"WANDB_API_KEY": "set", "NCCL_ALGO": "Ring", "LD_BIND_NOW": "1", "NCCL_COMM_ID": "set"}


def test_no_known_name_sounds_like_a_credential() -> None:
    assert not [name for name in KNOWN_VARIABLES if name.endswith(("TOKEN", "SECRET", "PASSWORD", "_KEY", "MAGIC"))]


@pytest.mark.parametrize(
    "text",
    [
        f"http://user:{TOKEN}@proxy:3128/x",
        f"https:/user:{TOKEN}@host/run cannot be read",
        "ghp_0123456789abcdefghijABCDEFGHIJ",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
        "Authorization: Bearer abcdefgh12345",
        f"https://host/?api_key={TOKEN}&x=1",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc",
    ],
)
def test_what_looks_like_a_credential_is_masked_once(text: str) -> None:
    clean = without_credentials(f"before {text} after")
    assert MASK in clean
    assert clean.startswith("before ")
    assert clean.endswith(" after")
    assert TOKEN not in clean
    assert "MIIE" not in clean
    assert without_credentials(clean) == clean


@pytest.mark.timeout(60)
def test_a_long_word_is_searched_for_credentials_in_linear_time() -> None:
    # A search that begins again at every hyphen takes minutes.
    assert without_credentials("eyJ-" * 200_000) == "eyJ-" * 200_000


@pytest.mark.parametrize(
    "text",
    [
        "max_tokens=4096",
        "API_TOKEN=set",
        "token=[value of A]",
        "Basic initialization failed",
        "tcp://node0:29500",
        "C:/me@corp/run",
        "a@b.org",
    ],
)
def test_ordinary_texts_are_no_credentials(text: str) -> None:
    assert without_credentials(text) == text


def test_the_name_of_a_variable_stands_for_its_value_in_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", ["nccl-bench", "run", "--env", f"GIVEN={TOKEN}", "--arm", f"m=f.py:C,K_Y={TOKEN}2"]
    )
    environ = {
        "HF_TOKEN": "hunter2",
        "N": "HF_TOKEN",
        "PROXY": "http://me:p%40ssword@proxy",
        "KEY": "first line\nsecond line",
    }
    text = f"401 for hunter2 at http://me:p%40ssword@proxy with p@ssword, second line, {TOKEN} and {TOKEN}2"
    assert masked(text, environ) == (
        "401 for [value of HF_TOKEN] at [value of PROXY] with [value of PROXY], [value of KEY], [value of GIVEN] and "
        "[value of K_Y]"
    )


def test_ordinary_values_stay_in_messages() -> None:
    environ = {
        "HOME": "/root/somebody",
        "PORT": "2026112908",
        "EDITOR": "vi",
        "NCCL_SOCKET_IFNAME": "ethernet0",
        "CA": "/etc",
    }
    text = "/root/somebody 2026112908 vi ethernet0 /etc"
    assert masked(text, environ) == text
