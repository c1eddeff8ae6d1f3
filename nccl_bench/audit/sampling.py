"""Watches one of every N steps of a long program, and pauses in between.

The watched step is chosen at random. Otherwise the watch could always miss something that the program does regularly,
such as a log in every tenth step. All ranks choose the same steps.

A step begins when the program calls a module of torch from outside of all modules, and ends where the next step begins.
So the backward pass, the optimizer and the collectives behind a model belong to the step. All work before the
first step is watched.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from random import Random
from typing import Any

from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from nccl_bench.audit.findings.record import Sample
from nccl_bench.audit.watching import Watch

# Any fixed number, so that all ranks choose the same steps.
_SEED = 0


class Sampler:
    """The steps of the program in the thread that made the sampler."""

    def __init__(self, watch: Watch, every: int) -> None:
        self._watch = watch
        self._every = every
        self._thread = threading.get_ident()
        self._depth = 0  # the number of modules that are being called
        self._pause: AbstractContextManager[None] | None = None
        self._began: float | None = None  # the time at which the step began; None before the first step
        self._watched_s: list[float] = []  # the times of the steps that were watched and have ended
        self._paused_s: list[float] = []  # the times of the steps that were not watched
        self._steps = 0
        self._watched = 0
        self._random = Random(_SEED)
        self._chosen = 0  # the place of the watched step among the present N steps

    @property
    def sample(self) -> Sample:
        """The steps so far, and the times of the steps that have ended."""
        return Sample(
            every=self._every,
            steps=self._steps,
            watched=self._watched,
            watched_step_s=statistics.median(self._watched_s) if self._watched_s else None,
            paused_step_s=statistics.median(self._paused_s) if self._paused_s else None,
        )

    def enter_module(self, _module: Any, _arguments: Any) -> None:
        """Note that a module is called."""
        if threading.get_ident() != self._thread:
            return
        if self._depth == 0:
            self._begin_step()
        self._depth += 1

    def leave_module(self, _module: Any, _arguments: Any, _result: Any) -> None:
        """Note that a call of a module has ended."""
        if threading.get_ident() == self._thread:
            self._depth -= 1

    def resume(self) -> None:
        """End the pause of the watch, if there is one."""
        if self._pause is not None:
            self._pause.__exit__(None, None, None)
            self._pause = None

    def _begin_step(self) -> None:
        if self._began is not None:
            times = self._watched_s if self._pause is None else self._paused_s
            times.append(time.perf_counter() - self._began)
        place = self._steps % self._every
        if place == 0:
            self._chosen = self._random.randrange(self._every)
        is_watched = place == self._chosen
        self._steps += 1
        self._watched += is_watched
        if is_watched:
            self.resume()
        elif self._pause is None:
            self._pause = self._watch.pause()
            self._pause.__enter__()
        self._began = time.perf_counter()


@contextmanager
def sampling(watch: Watch, every: int) -> Iterator[Sampler]:
    """Watch one of every ``every`` steps of the calling thread within the ``with`` block."""
    sampler = Sampler(watch, every)
    hooks = (
        register_module_forward_pre_hook(sampler.enter_module),
        register_module_forward_hook(sampler.leave_module, always_call=True),
    )
    try:
        yield sampler
    finally:
        for hook in hooks:
            hook.remove()
        sampler.resume()
