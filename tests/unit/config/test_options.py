"""Options as the metadata of a field: names, spellings, defaults and help."""

from __future__ import annotations

import pytest

from nccl_bench.config.options import options_of
from nccl_bench.config.run import RunConfig
from nccl_bench.config.verification import VerifyConfig

CONFIGS = (RunConfig, VerifyConfig)
RUN = options_of(RunConfig)


@pytest.mark.parametrize("config", CONFIGS)
def test_no_spelling_belongs_to_two_options(config: type) -> None:
    spellings = [
        spelling for option in options_of(config).values() for flag in option.flags for spelling in flag.split("/")
    ]
    assert len(spellings) == len(set(spellings))


@pytest.mark.parametrize(
    ("name", "label", "flags"),
    [
        ("max_rounds", "max_rounds", ("--max-rounds",)),
        ("root", "root", ("-r", "--root")),
        ("ops_per_batch", "ops_per_batch (--iters)", ("-n", "--iters")),
        ("same_buffer", "same_buffer", ("--same-buffer/--rotate",)),
    ],
)
def test_a_message_names_the_key_and_a_flag_that_differs(name: str, label: str, flags: tuple[str, ...]) -> None:
    assert (RUN[name].label, RUN[name].flags) == (label, flags)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rounds", "15, or 6 if there are several launches"),
        (
            "sizes",
            "8:1G:x2 on cuda, 8:1M:x8 on cpu; in skew and contended 8,64K,1M,16M on cuda, 8,64K on cpu; "
            "in overlap 1M:256M:x4 on cuda, 64K:1M:x16 on cpu",
        ),
        ("max_seconds", "46 on cuda, 17 on cpu"),
        ("per_iteration", "no"),
        ("routes", "none"),
        ("ops_per_batch", "chosen by a short measurement"),
    ],
)
def test_the_help_has_the_default_by_device_where_devices_differ(name: str, text: str) -> None:
    assert RUN[name].full_help.endswith(f" Default: {text}.")


def test_options_that_two_commands_share_are_the_same() -> None:
    verify = options_of(VerifyConfig)
    shared = {name for name in RUN if name in verify} - {"arms", "timeout_s"}
    assert shared == {"device", "user_arms", "routes", "nccl_library", "transport"}
    assert all(RUN[name] == verify[name] for name in shared)
