"""Text that ranks of another launcher print is cleaned on its way to the terminal."""

from __future__ import annotations

import sys

import pytest

from nccl_bench.cli.cleaned_streams import CleanedStreams
from tests.support.planted_texts import ANYWHERE, AT_START

SECRET = "pl4nted-t0ken-9f3b"


def test_nothing_that_a_rank_prints_is_obeyed_or_secret(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    streams = CleanedStreams()
    with streams:
        for text in (*AT_START.values(), *ANYWHERE.values()):
            sys.stdout.write(f"{text} {SECRET}\n")
        # A secret in several parts, in bytes, and without the end of a line.
        sys.stderr.write(SECRET[:5])
        sys.stderr.write(SECRET[5:] + "\n")
        sys.stdout.buffer.write(b"\x1b\xff" + SECRET.encode())
    streams.stop()
    sys.stdout.write("\x1b[32mours\n")
    printed, errors = capsys.readouterr()
    assert SECRET not in printed + errors
    cleaned, ours, rest = printed.partition("\x1b[32mours\n")
    assert (ours, rest) == ("\x1b[32mours\n", "")
    assert cleaned.endswith(r"\x1b\xff[value of HF_TOKEN]")
    assert cleaned.replace("\n", "").isprintable()
    assert not any(line.lstrip().startswith("::") for line in cleaned.splitlines())
    assert errors == "[value of HF_TOKEN]\n"
