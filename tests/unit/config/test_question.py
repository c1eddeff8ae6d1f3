"""The question of a run: its baseline, and the arms whose verdicts answer it."""

from __future__ import annotations

import pytest

from nccl_bench.config.question import asked_candidates, default_baseline


@pytest.mark.parametrize(
    ("arms", "baseline", "user_arms", "candidates"),
    [
        (
            ("stream-free", "before", "before-current", "after"),
            "before",
            ("before", "before-current", "after"),
            ("after",),
        ),
        (("stream-free", "before", "after"), "stream-free", ("before", "after"), ("before", "after")),
        (("torch", "stream-free", "mine"), "torch", ("mine",), ("mine",)),
        (("mine", "torch"), "mine", ("mine",), ("torch",)),
        (("stream-free", "dedicated-stream", "torch"), "dedicated-stream", (), ("stream-free", "torch")),
        (("torch",), "torch", (), ()),
    ],
)
def test_the_verdicts_about_after_or_about_user_arms_answer_a_run(
    arms: tuple[str, ...], baseline: str, user_arms: tuple[str, ...], candidates: tuple[str, ...]
) -> None:
    assert asked_candidates(arms, baseline, user_arms) == candidates


def test_a_baseline_that_follows_from_user_arms_has_a_reason() -> None:
    def reason(arms: tuple[str, ...], **targets: str) -> str:
        return default_baseline(arms, targets).reason

    assert reason(("before", "after"), before="a:b", after="c:d") == "the run has the arms before and after"
    assert reason(("torch", "mine"), mine="a:b") == "mine is the only user arm"
    assert reason(("stream-free", "few"), few="stream-free") == "few is stream-free, run in another way"
    assert reason(("dedicated-stream", "stream-free")) == ""
    assert reason(("dedicated-stream", "mine"), mine="a:b") == ""
