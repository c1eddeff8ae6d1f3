"""Options override a file key by key, and the scenario and the machine give the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from nccl_bench.config.run import resolve
from nccl_bench.errors import ExitCode
from nccl_bench.launch import hardware
from nccl_bench.launch.config import LaunchConfig
from tests.support.command_line import CommandLine, assert_one_message, configured, sizes


def test_options_override_the_file_key_by_key(command_line: CommandLine, directory: Path) -> None:
    (directory / "mine.toml").write_text("rounds = 2\nwarmup = 3\nsizes = '1K'\ndevice = 'cuda'\n", encoding="utf-8")
    config = command_line.observe("run", "mine.toml", "--rounds", "4").config
    assert config == resolve("cuda", {"name": "mine", "rounds": 4, "warmup": 3, "sizes": "1K"})
    overridden = command_line.observe("run", "mine.toml", "--device", "cpu").config
    assert overridden is not None
    assert overridden.device == "cpu"


@pytest.mark.parametrize(
    ("written", "arguments", "result"),
    [
        ("4K:64K:x4", ("-b", "1K"), (1024, 4096, 16384, 65536)),
        ("4K:64K:x4", ("-e", "16K"), (4096, 16384)),
        ("4K:64K:x4", ("-f", "16"), (4096, 65536)),
        ("4K:64K:x4", ("-e", "12K", "-i", "4K"), (4096, 8192, 12288)),
        ("1M: 3M: +1M", ("-e", "2M"), (2**20, 2**21)),
        ("1M:4M:+1M", ("-f", "2"), (2**20, 2**21, 2**22)),
    ],
)
def test_begin_end_factor_and_step_change_a_part_of_the_sweep_in_the_file(
    written: str, arguments: tuple[str, ...], result: tuple[int, ...], command_line: CommandLine, directory: Path
) -> None:
    (directory / "mine.toml").write_text(f"sizes = '{written}'\n", encoding="utf-8")
    assert sizes(command_line.observe("run", "mine.toml", *arguments)) == result


@pytest.mark.parametrize(
    ("scenario", "result"),
    [
        ("overlap", (2**20, 2**22)),
        # The default of this scenario is a list, which has no parts, so the usual sweep changes.
        ("contended", tuple(2**power for power in range(3, 23))),
    ],
)
def test_begin_end_factor_and_step_change_a_part_of_the_default_sweep_of_the_scenario(
    scenario: str, result: tuple[int, ...], command_line: CommandLine
) -> None:
    assert sizes(command_line.observe("run", "--device", "cuda", "--scenario", scenario, "-e", "4M")) == result


@pytest.mark.parametrize("written", ["'1K,2K'", "['1K', '2K']", "'1K:2K'", "'1K:2K:xK'", "3"])
def test_begin_and_end_are_refused_where_the_file_lists_sizes(
    written: str, command_line: CommandLine, directory: Path
) -> None:
    (directory / "mine.toml").write_text(f"sizes = {written}\n", encoding="utf-8")
    code, stdout, stderr = command_line.run("run", "mine.toml", "-e", "64K")
    assert (code, stdout) == (ExitCode.USAGE, "")
    assert_one_message(stderr, ("the file's sizes", "BEGIN:END:xFACTOR", "--sizes"))


@pytest.mark.parametrize(
    ("gpus", "arguments", "device", "nproc"),
    [
        (0, (), "cpu", 2),
        (4, (), "cuda", 4),
        (4, ("--device", "cpu"), "cpu", 2),
        (0, ("--device", "cuda"), "cuda", 1),
        (4, ("--nproc", "3"), "cuda", 3),
    ],
)
def test_the_machine_decides_the_device_and_the_ranks_by_default(
    gpus: int,
    arguments: tuple[str, ...],
    device: str,
    nproc: int,
    command_line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hardware, "gpu_count", lambda _environ: gpus)
    observed = command_line.observe("run", *arguments)
    assert configured("device")(observed) == device
    assert observed.launch == LaunchConfig(nproc=nproc)
