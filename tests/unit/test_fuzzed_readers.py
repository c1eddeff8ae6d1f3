"""Readers of files from unknown people end in a result or in one of the package's errors.

This is the short form of ``python -m tests.experiments.fuzz_readers``, which reads a million inputs.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.experiments.fuzz_readers import Fuzzer, corpus, files_of, raise_too_slow
from tests.support.fuzzed_readers import READERS

INPUTS = 150

pytestmark = [pytest.mark.timeout(120), pytest.mark.filterwarnings("error")]


@pytest.fixture
def fuzzer(tmp_path: Path) -> Iterator[Fuzzer]:
    earlier = signal.signal(signal.SIGVTALRM, raise_too_slow)
    yield Fuzzer(tmp_path, report_every=5, kept=None)
    signal.signal(signal.SIGVTALRM, earlier)


@pytest.mark.parametrize(("name", "directory"), list(corpus()), ids=lambda value: Path(value).name)
def test_an_input_that_once_failed_is_read_or_refused(name: str, directory: Path, fuzzer: Fuzzer) -> None:
    assert fuzzer.try_input(name, READERS[name], files_of(directory), random.Random(0), reported=True) is None


@pytest.mark.parametrize("name", READERS)
def test_a_changed_file_is_read_or_refused(name: str, fuzzer: Fuzzer, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(INPUTS):
        fuzzer.feed(name, 0, number)
    assert not fuzzer.failures, capsys.readouterr().out
    assert fuzzer.read[name]
