"""The command line: every option changes something, every choice runs, and bad input gets one message, no traceback."""

from __future__ import annotations

import importlib
import io
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from rich.console import Console

from nccl_bench.catalog import support
from nccl_bench.catalog.arms import ARMS, DEFAULT_ARMS
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.timings import Timing
from nccl_bench.cli import app, main, session
from nccl_bench.cli.progress import Display, case_label
from nccl_bench.cli.session import Output
from nccl_bench.config.run import CallerStream, Register, RunConfig, resolve
from nccl_bench.config.verification import VerifyConfig
from nccl_bench.errors import ExitCode, InterruptedRunError, SetupError, UsageError
from nccl_bench.launch import hardware
from nccl_bench.launch.attach import Attachment
from nccl_bench.launch.sweep import Outcome
from nccl_bench.launch.torchrun import LaunchConfig
from nccl_bench.plan.cases import make_plan
from nccl_bench.ranks.progress import Position
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Crash, Line, Skipped
from nccl_bench.records.store import RunStore
from tests.support.synthetic_runs import case, crash, hang, meta, samples

ROOT = Path(__file__).parents[3]
RANKS = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
TORCHRUN = RANKS | {"TORCHELASTIC_RUN_ID": "none", "MASTER_PORT": "29500"}
LAUNCHERS_MARKS = (*TORCHRUN, "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_STEP_ID", "CUDA_VISIBLE_DEVICES", "COLUMNS")
VERIFY = importlib.import_module("nccl_bench.cli.verify")  # behind the command of that name
COMMANDS: Mapping[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # of a group


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a command line came to; what it does not come to is absent."""

    did: str
    config: RunConfig | VerifyConfig | None = None
    launch: LaunchConfig | None = None
    attachment: Attachment | None = None
    output: Output | None = None
    planned_for: tuple[int, ...] | None = None
    run: Run | None = None
    printed: str = ""


class CommandLine:
    """Runs command lines in an empty directory, up to the point where ranks would start or tables be printed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self._seen: list[Seen] = []

    def observe(self, *arguments: str, env: Mapping[str, str] = {}) -> Seen:
        """What a command line comes to, which has to be good."""
        self._seen.clear()
        with self._monkeypatch.context() as patch:
            patch.setattr(session, "run_launched", lambda c, x, o: self._see("launched", config=c, launch=x, output=o))
            patch.setattr(
                session, "run_attached", lambda c, x, o: self._see("attached", config=c, attachment=x, output=o)
            )
            patch.setattr(session, "show_plan", lambda c, *n: self._see("planned", config=c, planned_for=n))
            patch.setattr(session, "print_report", lambda r, o: self._see("reported", run=r, output=o))
            patch.setattr(VERIFY, "_prove", self._prove)
            code, stdout, stderr = self.run(*arguments, env=env)
        assert code == 0, stderr
        (seen,) = self._seen or [Seen(did="printed", printed=stdout)]
        return seen

    def run(self, *arguments: str, env: Mapping[str, str] = {}) -> tuple[int, str, str]:
        """The exit code, standard output and standard error."""
        with self._monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["nccl-bench", *arguments])
            for name, value in env.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as end:
                main()
        captured = self._capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    def _prove(self, config: VerifyConfig, launch: LaunchConfig, output: Output, gpus: int | None) -> ExitCode:
        self._see("proven", config=config, launch=launch, output=output)
        return ExitCode.OK

    def _see(self, did: str, **facts: Any) -> None:
        self._seen.append(Seen(did=did, **facts))


def tree(directory: Path) -> dict[str, bytes | None]:
    """Everything below a directory."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(directory.rglob("*"))}


@pytest.fixture(scope="module")
def made_up_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run."""
    directory = tmp_path_factory.mktemp("runs") / "made-up"
    store = RunStore.create(
        directory,
        name="made-up",
        command=[],
        config=meta(device="cpu")["config"],
        launch=meta()["launch"],
        left_out=[],
        environment={},
    )
    store.append(samples())
    return directory


@pytest.fixture
def here(tmp_path: Path, made_up_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a configuration, runs, and a module of the user's in it and in source trees."""
    for name in LAUNCHERS_MARKS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hardware, "gpu_count", lambda _environ: 0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text("rounds = 2\nper_iteration = true\nsame_buffer = true\n", encoding="utf-8")
    (tmp_path / "limits.toml").write_text("[[limits]]\nthreshold = '5%'\nsizes = ':1K'\n", encoding="utf-8")
    for name in ("a-run", "another-run"):
        shutil.copytree(made_up_run, tmp_path / name)
    for tree in (".", "x", "y", "old", "new"):
        (tmp_path / tree).mkdir(exist_ok=True)
        (tmp_path / tree / "m.py").touch()
    return tmp_path


@pytest.fixture
def command_line(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    def never(*_arguments: object, **_keywords: object) -> None:
        raise AssertionError("ranks would have been started")

    monkeypatch.setattr(session, "run_sweep", never)
    return CommandLine(monkeypatch, capsys)


# -- every option is read ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option with ``value`` (none for a flag), which makes ``look`` give ``gives``, and something else without."""

    look: Callable[[Seen], object]
    gives: object
    value: str | None = None
    base: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)


def configured(name: str) -> Callable[[Seen], object]:
    return lambda seen: getattr(seen.config, name)


def launched(name: str) -> Callable[[Seen], object]:
    return lambda seen: getattr(seen.launch, name)


def shown(name: str) -> Callable[[Seen], object]:
    return lambda seen: getattr(seen.output, name)


def did(seen: Seen) -> object:
    return seen.did


def listed(seen: Seen) -> object:
    return tuple(re.findall(r"(?m)^\w+$", seen.printed))


def sizes(seen: Seen) -> object:
    assert isinstance(seen.config, RunConfig)
    return seen.config.sizes


def brought(seen: Seen) -> object:
    assert seen.config is not None
    return [(user_arm.name, user_arm.tree) for user_arm in seen.config.user_arms]


def ends(seen: Seen) -> object:
    assert isinstance(seen.config, RunConfig)
    return seen.config.sizes[0], seen.config.sizes[-1]


FROM_TREES = ("--arm", "m:C", "--before-tree", "x", "--after-tree", "y")
TWO_NODES = ("--nnodes", "2", "--rdzv-endpoint", "node0:29500")
RUN_OPTIONS: Mapping[str, Option] = {
    "config": Option(value="mine.toml", look=configured("rounds"), gives=2),
    "begin": Option(value="64", look=ends, gives=(64, 64 * 8**4)),
    "end": Option(value="4K", look=ends, gives=(8, 4096)),
    "factor": Option(value="4", base=("-b", "8", "-e", "128"), look=sizes, gives=(8, 32, 128)),
    "step": Option(value="8", base=("-b", "8", "-e", "32"), look=sizes, gives=(8, 16, 24, 32)),
    "sizes": Option(value="1K,2K", look=sizes, gives=(1024, 2048)),
    "collective": Option(value="reduce", look=configured("collectives"), gives=("reduce",)),
    "dtype": Option(value="half", look=configured("dtypes"), gives=("float16",)),
    "op": Option(value="max", look=configured("redops"), gives=(RedOp.MAX,)),
    "placement": Option(value="out-of-place", look=configured("placements"), gives=(Placement.OUT_OF_PLACE,)),
    "root": Option(value="1", look=configured("root"), gives=1),
    "arms": Option(value="transport", look=configured("arms"), gives=("transport",)),
    "arm": Option(value="mine=m:C", look=brought, gives=[("mine", None)]),
    "before_tree": Option(value="old", base=FROM_TREES, look=brought, gives=[("before", "old"), ("after", "y")]),
    "after_tree": Option(value="new", base=FROM_TREES, look=brought, gives=[("before", "x"), ("after", "new")]),
    "baseline": Option(value="torch", look=configured("baseline"), gives="torch"),
    "routes": Option(
        value="eager=communicator",
        base=("--arms", "coordinator"),
        look=configured("routes"),
        gives=("eager=communicator",),
    ),
    "timing": Option(value="gated", look=configured("timings"), gives=(Timing.GATED,)),
    "rounds": Option(value="3", look=configured("rounds"), gives=3),
    "max_rounds": Option(value="30", look=configured("max_rounds"), gives=30),
    "max_seconds": Option(value="90", look=configured("max_seconds"), gives=90.0),
    "threshold": Option(value="5%", look=configured("threshold"), gives=0.05),
    "iters": Option(value="20", look=configured("ops_per_batch"), gives=20),
    "warmup": Option(value="1", look=configured("warmup"), gives=1),
    "check": Option(value="0", look=configured("check"), gives=False),
    "per_iteration": Option(look=configured("per_iteration"), gives=True),
    "same_buffer": Option(look=configured("same_buffer"), gives=True),
    "register": Option(value="window", base=("--device", "cuda"), look=configured("register"), gives=Register.WINDOW),
    "caller_stream": Option(value="default", look=configured("caller_stream"), gives=CallerStream.DEFAULT),
    "seed": Option(value="7", look=configured("seed"), gives=7),
    "timeout": Option(value="2.5", look=configured("timeout_s"), gives=2.5),
    "device": Option(value="cuda", look=configured("device"), gives="cuda"),
    "nccl_library": Option(
        value="/opt/libnccl.so.2", base=("--device", "cuda"), look=configured("nccl_library"), gives="/opt/libnccl.so.2"
    ),
    "transport": Option(value="nccl4py", base=("--device", "cuda"), look=configured("transport"), gives="nccl4py"),
    "env": Option(value="NCCL_ALGO=Ring", look=configured("variables"), gives={"NCCL_ALGO": "Ring"}),
    "nproc": Option(value="3", look=launched("nproc"), gives=3),
    "nnodes": Option(value="3", base=TWO_NODES, look=launched("nnodes"), gives=3),
    "node_rank": Option(value="1", base=TWO_NODES, look=launched("node_rank"), gives=1),
    "rdzv_endpoint": Option(value="b:1", base=TWO_NODES, look=launched("rdzv_endpoint"), gives="b:1"),
    "launch": Option(env=TORCHRUN, look=did, gives="launched"),
    "attach": Option(env=RANKS, look=did, gives="attached"),
    "name": Option(value="mine", look=configured("name"), gives="mine"),
    "out": Option(value="there", look=shown("out"), gives=Path("there")),
    "dry_run": Option(look=did, gives="planned"),
    "limits": Option(value="limits.toml", look=configured("limits"), gives=({"threshold": "5%", "sizes": ":1K"},)),
    "format": Option(value="markdown", look=shown("form"), gives="markdown"),
    "fail_on": Option(value="slower,wrong", look=shown("fail_on"), gives=("slower", "wrong")),
    "json": Option(look=shown("json"), gives=True),
    "width": Option(value="132", look=shown("width"), gives=132),
}
REPORT_OPTIONS: Mapping[str, Option] = {
    "directory": Option(value="a-run", look=did, gives="reported"),
    "json": Option(base=("a-run",), look=shown("json"), gives=True),
    "csv": Option(base=("a-run",), look=shown("csv"), gives=True),
    "format": Option(value="markdown", base=("a-run",), look=shown("form"), gives="markdown"),
    "width": Option(value="132", base=("a-run",), look=shown("width"), gives=132),
}
NCCL_TESTS = str(ROOT / "tests" / "data" / "nccl-tests" / "all_reduce.txt")
IMPORT_OPTIONS: Mapping[str, Option] = {
    "files": Option(value=NCCL_TESTS, look=lambda seen: "recorded in" in seen.printed, gives=True),
    "name": Option(value="mine", base=(NCCL_TESTS,), look=lambda seen: "-mine" in seen.printed, gives=True),
    "out": Option(
        value="there", base=(NCCL_TESTS,), look=lambda seen: seen.printed.strip().endswith("/there"), gives=True
    ),
}
LIST_OPTIONS: Mapping[str, Option] = {
    "sections": Option(value="redops", base=("dtypes",), look=listed, gives=("dtypes", "redops")),
    "routes": Option(value="graph=torch", look=lambda seen: "torch   communicator" in seen.printed, gives=False),
    "json": Option(look=lambda seen: seen.printed.startswith("{"), gives=True),
    "width": Option(
        value="132",
        env={"COLUMNS": "80"},
        look=lambda seen: max(map(len, seen.printed.splitlines())) > 80,
        gives=True,
    ),
}
VERIFY_OPTIONS: Mapping[str, Option] = {
    "arms": Option(value="transport", look=configured("arms"), gives=("transport",)),
    "arm": Option(value="mine=m:C", look=brought, gives=[("mine", None)]),
    "before_tree": Option(value="old", base=FROM_TREES, look=brought, gives=[("before", "old"), ("after", "y")]),
    "after_tree": Option(value="new", base=FROM_TREES, look=brought, gives=[("before", "x"), ("after", "new")]),
    "probes": Option(value="state", look=configured("probes"), gives=("state",)),
    "routes": Option(
        value="eager=communicator",
        base=("--arms", "coordinator"),
        look=configured("routes"),
        gives=("eager=communicator",),
    ),
    "device": Option(value="cuda", base=("--nproc", "2"), look=configured("device"), gives="cuda"),
    "nproc": Option(value="3", look=launched("nproc"), gives=3),
    "nccl_library": Option(
        value="/opt/libnccl.so.2",
        base=("--device", "cuda", "--nproc", "2"),
        look=configured("nccl_library"),
        gives="/opt/libnccl.so.2",
    ),
    "transport": Option(
        value="nccl4py", base=("--device", "cuda", "--nproc", "2"), look=configured("transport"), gives="nccl4py"
    ),
    "timeout": Option(value="2.5", look=configured("timeout_s"), gives=2.5),
    "out": Option(value="there.json", look=shown("out"), gives=Path("there.json")),
    "json": Option(look=shown("json"), gives=True),
    "width": Option(value="132", look=shown("width"), gives=132),
}
TABLES = {
    "run": RUN_OPTIONS,
    "report": REPORT_OPTIONS,
    "import": IMPORT_OPTIONS,
    "list": LIST_OPTIONS,
    "verify": VERIFY_OPTIONS,
}
# The options of `compare` have a module of tests of their own.
COMPARE = "compare"
ALL_OPTIONS = [
    (command, parameter.name) for command in COMMANDS if command != COMPARE for parameter in COMMANDS[command].params
]


def parameter(command: str, name: str) -> Any:
    return next(parameter for parameter in COMMANDS[command].params if parameter.name == name)


def test_every_command_and_option_has_an_entry() -> None:
    found = {name: {parameter.name for parameter in command.params} for name, command in COMMANDS.items()}
    assert found == {name: set(table) for name, table in TABLES.items()} | {COMPARE: found[COMPARE]}


@pytest.mark.parametrize(("command", "name"), ALL_OPTIONS)
def test_every_spelling_of_every_option_changes_what_it_says(
    command: str, name: str, command_line: CommandLine
) -> None:
    option = TABLES[command][name]
    described = parameter(command, name)
    values = [] if option.value is None else [option.value]
    if described.param_type_name == "argument":
        found = command_line.observe(command, *option.base, *values)
        assert option.look(found) == option.gives
        return
    without = option.look(command_line.observe(command, *option.base, env=option.env))
    assert without != option.gives
    for spelling in described.opts:
        found = command_line.observe(command, *option.base, spelling, *values, env=option.env)
        assert option.look(found) == option.gives, spelling
    for spelling in described.secondary_opts:
        found = command_line.observe(command, *option.base, described.opts[0], spelling)
        assert option.look(found) == without, spelling
        assert option.look(command_line.observe(command, "mine.toml", spelling)) == without, spelling


@pytest.mark.parametrize(
    ("elsewhere", "env", "did"),
    [
        (("--attach",), RANKS | {"MASTER_PORT": "1"}, "attached"),
        (("--nnodes", "2", "--rdzv-endpoint", "node0:29500"), {}, "launched"),
        (("--env", "PYTHONPATH=lib"), {}, "launched"),
    ],
)
def test_what_is_missing_here_alone_is_left_to_the_ranks(
    elsewhere: tuple[str, ...], env: Mapping[str, str], did: str, command_line: CommandLine
) -> None:
    assert command_line.observe("run", "--arm", "mine=nosuch:C", *elsewhere, env=env).did == did
    assert command_line.run("run", "--arm", "mine=nosuch:C")[0] == ExitCode.USAGE


def test_arguments_say_which_file_and_which_run(command_line: CommandLine, here: Path) -> None:
    assert command_line.observe("run").config == resolve("cpu")
    assert (here / "a-run" / "samples.jsonl").write_text("", encoding="utf-8") == 0
    runs = [command_line.observe("report", name).run for name in ("a-run", "another-run")]
    assert [len(run.lines) for run in runs if run is not None] == [0, 1]


def test_options_override_the_file_key_by_key(command_line: CommandLine, here: Path) -> None:
    (here / "mine.toml").write_text("rounds = 2\nwarmup = 3\nsizes = '1K'\ndevice = 'cuda'\n", encoding="utf-8")
    config = command_line.observe("run", "mine.toml", "--rounds", "4").config
    assert config == resolve("cuda", {"name": "mine", "rounds": 4, "warmup": 3, "sizes": "1K"})
    overridden = command_line.observe("run", "mine.toml", "--device", "cpu").config
    assert overridden is not None
    assert overridden.device == "cpu"


@pytest.mark.parametrize(
    ("written", "arguments", "found"),
    [
        ("4K:64K:x4", ("-b", "1K"), (1024, 4096, 16384, 65536)),
        ("4K:64K:x4", ("-e", "16K"), (4096, 16384)),
        ("4K:64K:x4", ("-f", "16"), (4096, 65536)),
        ("4K:64K:x4", ("-e", "12K", "-i", "4K"), (4096, 8192, 12288)),
        ("1M: 3M: +1M", ("-e", "2M"), (2**20, 2**21)),
        ("1M:4M:+1M", ("-f", "2"), (2**20, 2**21, 2**22)),
    ],
)
def test_a_part_of_the_file_s_sweep_may_be_changed(
    written: str, arguments: tuple[str, ...], found: tuple[int, ...], command_line: CommandLine, here: Path
) -> None:
    (here / "mine.toml").write_text(f"sizes = '{written}'\n", encoding="utf-8")
    assert sizes(command_line.observe("run", "mine.toml", *arguments)) == found


@pytest.mark.parametrize("written", ["'1K,2K'", "['1K', '2K']", "'1K:2K'", "'1K:2K:xK'", "3"])
def test_of_listed_sizes_there_is_no_part_to_change(written: str, command_line: CommandLine, here: Path) -> None:
    (here / "mine.toml").write_text(f"sizes = {written}\n", encoding="utf-8")
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
def test_the_machine_decides_where_nobody_says(
    gpus: int,
    arguments: tuple[str, ...],
    device: str,
    nproc: int,
    command_line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hardware, "gpu_count", lambda _environ: gpus)
    seen = command_line.observe("run", *arguments)
    assert configured("device")(seen) == device
    assert seen.launch == LaunchConfig(nproc=nproc)


def test_short_options_are_those_of_nccl_tests_and_no_others() -> None:
    shorts = {
        spelling: parameter.name
        for parameter in COMMANDS["run"].params
        for spelling in parameter.opts
        if re.fullmatch(r"-\w", spelling)
    }
    assert shorts == {
        "-b": "begin",
        "-e": "end",
        "-i": "step",
        "-f": "factor",
        "-n": "iters",
        "-w": "warmup",
        "-o": "op",
        "-d": "dtype",
        "-r": "root",
        "-c": "check",
        "-T": "timeout",
        "-I": "per_iteration",
    }


def test_a_command_line_written_for_nccl_tests_works(command_line: CommandLine) -> None:
    written = "-b 8 -e 128 -f 4 -n 20 -w 5 -c 0 -d half -o max -r 1 -T 60 -I"
    expected = {
        "sizes": [8, 32, 128],
        "ops_per_batch": 20,
        "warmup": 5,
        "check": False,
        "dtypes": "float16",
        "redops": "max",
        "root": 1,
        "timeout_s": 60,
        "per_iteration": True,
    }
    assert command_line.observe("run", *written.split()).config == resolve("cpu", expected)
    assert sizes(command_line.observe("run", "-b", "1M", "-e", "3M", "-i", "1M")) == (2**20, 2**21, 3 * 2**20)
    everything = command_line.observe("run", "-d", "all", "-o", "all").config
    assert everything == resolve("cpu", {"dtypes": list(DTYPES), "redops": list(RedOp)})


# -- every choice runs ---------------------------------------------------------------------------------------------

CHOICES: Mapping[str, tuple[str, ...]] = {
    "collective": tuple(COLLECTIVES),
    "dtype": tuple(DTYPES),
    "op": tuple(RedOp),
    "placement": tuple(Placement),
    "timing": tuple(Timing),
    "arms": tuple(name for name, arm in ARMS.items() if arm.timed),
    "device": tuple(DEVICES),
    "caller_stream": tuple(CallerStream),
}


def possible(device: str) -> list[tuple[str, str]]:
    """The choices of every option on ``device``, which has no use for some arms."""
    able = {name for name, arm in ARMS.items() if DEVICES[device].transport in arm.transports}
    return [(name, choice) for name in CHOICES for choice in CHOICES[name] if name != "arms" or choice in able]


REASONS = (
    *(rule.reason for rule in support._RULES),
    *(reason for device in DEVICES.values() for reason in device.missing_timings.values()),
    *(reason for device in DEVICES.values() for reason in device.missing_on_default_stream.values()),
    "as nccl-tests rounds it",
    "it is measured out-of-place",
)


def offered(name: str) -> tuple[str, ...]:
    """The choices in an option's help."""
    match = re.match(r"(?:Of|[^:.]*:) ([\w, -]+)(?:; or all)?\.", parameter("run", name).help)
    assert match is not None
    return tuple(match[1].split(", "))


@pytest.mark.parametrize("name", CHOICES)
def test_help_offers_what_there_is(name: str) -> None:
    assert offered(name) == CHOICES[name]
    assert ("; or all." in parameter("run", name).help) == (name in ("collective", "dtype", "op", "placement"))


def test_no_other_option_offers_choices() -> None:
    assert {p.name for p in COMMANDS["run"].params if (p.help or "").startswith("Of ")} - set(CHOICES) == {
        "fail_on",
        "seed",
    }


def test_help_tells_the_default_arms() -> None:
    assert parameter("run", "arms").help.endswith(f" Default: {', '.join(DEFAULT_ARMS)}.")


@pytest.mark.parametrize(
    ("name", "choice", "device"), [(*each, device) for device in DEVICES for each in possible(device)]
)
def test_every_choice_ends_in_cases_or_in_a_documented_reason(
    name: str, choice: str, device: str, command_line: CommandLine
) -> None:
    spelling = parameter("run", name).opts[-1]
    config = command_line.observe("run", "--device", device, spelling, choice).config
    assert config is not None
    try:
        plan = make_plan(config, 2)
    except UsageError as error:
        # GPUs run every choice that is offered; only what the CPU lacks may end here.
        assert device == "cpu"
        _, _, reasons = str(error).partition("left to measure: ")
        assert reasons
        assert all(reason.endswith(REASONS) for reason in reasons.split("; "))
        return
    assert plan.cases
    assert plan.timings
    assert all(reason.endswith(REASONS) for reason in plan.left_out)


@pytest.mark.parametrize("device", DEVICES)
def test_no_arm_of_any_combination_is_dropped_without_a_word(device: str) -> None:
    arms = [choice for name, choice in possible(device) if name == "arms"]
    for collective, dtype, op, placement in itertools.product(COLLECTIVES, DTYPES, RedOp, Placement):
        layer = {"collectives": collective, "dtypes": dtype, "redops": op, "placements": placement, "sizes": "64K"}
        try:
            plan = make_plan(resolve(device, layer, {"arms": arms}), 2)
            measured, told = plan.cases[0].arms, plan.left_out
        except UsageError as error:
            measured, told = (), tuple(str(error).partition("left to measure: ")[2].split("; "))
        # Names of arms are told before what they do not run, reason by reason.
        names = [reason.partition(f" {collective} {dtype}")[0] for reason in told]
        unmeasured = set(re.findall(r"[\w-]+", " ".join(names)))
        for arm in arms:
            assert (arm in measured) != ("no arm runs" in names or arm in unmeasured), (layer, arm)


# -- bad input -----------------------------------------------------------------------------------------------------

FLOAT8 = ("--arms", "all", "--collective", "all_reduce", "--dtype", "float8_e4m3fn")
# The command line, the exit code, and what the one message has to say.
BAD: list[tuple[tuple[str, ...], int, tuple[str, ...]]] = [
    (("run", "--sizes", "8X"), 2, ("'8X'", "8, 4K, 1M")),
    (("run", "--sizes", "8:1K:x0"), 2, ("factor is 0",)),
    (("run", "--sizes", ""), 2, ("empty",)),
    (("run", "-b", "1M", "-e", "8"), 2, ("begins at 1M", "8")),
    (("run", "-f", "1"), 2, ("factor is 1",)),
    (("run", "-b", "1", "-e", "1G", "-i", "1"), 2, ("over 10000 sizes",)),
    (("run", "-f", "2", "-i", "8"), 2, ("-f and -i exclude each other",)),
    (("run", "--sizes", "8", "-b", "8"), 2, ("--sizes and -b, -e, -f, -i exclude each other",)),
    (("run", "--arm", "mine.py:Mine"), 2, ("'mine.py:Mine' has no name", "NAME=TARGET")),
    (("run", "--arm", "x=stream-free"), 2, ("x is stream-free and nothing else", "--arms")),
    (("run", "--arm", "x=a.py:A,oder=bare"), 2, ("'oder'", "order, adapter, tree, transport", "capitals")),
    (("run", "--arm", "x=stream-free,RANK=1"), 2, ("RANK", "find each other")),
    (("run", "--arm", "x=stream-free,LD_PRELOAD=a.so"), 2, ("LD_PRELOAD", "when a process starts")),
    (("run", "--env", "MASTER_PORT=1"), 2, ("MASTER_PORT", "find each other")),
    (("run", "--arm", "stream-free"), 2, ("one of our own arms", "--arms")),
    (("run", "--arm", "x=stream-free,order=bare,A=1"), 2, ("order of the arm x", "has its own")),
    (("run", "--arm", "x=torch,transport=nccl"), 2, ("only these choose one", "stream-free")),
    (("run", "--arm", "x=stream-free,transport=nccl"), 2, ("transport of the arm x is 'nccl'", "gloo")),
    (("run", "--arm", "x=m:C,transport=gloo"), 2, ("x brings its own transport",)),
    (("run", "--arm", "x=nccl4py,A=1"), 2, ("x is nccl4py", "the device cpu has no use for")),
    (("run", "--arm", "x=dedicated-stream-unordered,A=1"), 2, ("the arm x is bare", "verify")),
    (("run", "--before-tree", "x"), 2, ("belong together",)),
    (("run", "--arm", "mine=nosuch.py:C"), 2, ("the arm mine", "no Python file nosuch.py", "path/to/file.py:NAME")),
    (("run", "--arm", "mine=nosuch.py:C", "--dry-run"), 2, ("the arm mine", "no Python file nosuch.py")),
    (("verify", "--arm", "mine=nosuch.py:C"), 2, ("the arm mine", "no Python file nosuch.py")),
    (("run", "--arm", "mine=nosuch.comm:C"), 2, ("the arm mine", "no module nosuch.comm", "nor is it installed")),
    (("run", "--arm", "mine=m.py:"), 2, ("the arm mine", "'m.py:' names nothing", "path/to/file.py:NAME")),
    (("run", "--arm", "mine=m:C,tree=nosuch"), 2, ("the arm mine", "the tree nosuch is no directory")),
    (("run", "--arm", "nosuch"), 2, ("the arm nosuch", "entry point 'nosuch' is unknown")),
    (("run", "--env", "NCCL_ALGO"), 2, ("--env is 'NCCL_ALGO'", "NAME=VALUE")),
    (("run", "--env", "path=x"), 2, ("'path'", "capitals")),
    (("run", "--transport", "nccl4py"), 2, ("'nccl4py'", "gloo")),
    (("verify", "--transport", "nccl4py"), 2, ("'nccl4py'", "gloo")),
    (("verify", "--arms", "nccl4py"), 2, ("'nccl4py'", "allowed are stream-free")),
    (("run", "--arms", "stream-fre"), 2, ("'stream-fre'", "stream-free")),
    (("run", "--arms", "dedicated-stream-unordered"), 2, ("'dedicated-stream-unordered'", "allowed")),
    (("run", "--baseline", "transport"), 2, ("'transport'", "not among the arms")),
    (("run", "--collective", "allreduce"), 2, ("'allreduce'", "all_reduce")),
    (("run", "--device", ""), 2, ("''", "cuda, cpu")),
    (("run", "--device", "tpu"), 2, ("'tpu'", "cuda, cpu")),
    (("run", "--caller-stream", "all"), 2, ("'all'", "side, default")),
    (("run", "--nccl-library", "libnccl.so"), 2, ("'libnccl.so'", "cpu")),
    (("run", "--check", "2"), 2, ("check is 2", "true or false")),
    (("run", "-T", "nan"), 2, ("nan", "above 0")),
    (("run", "--rounds", "9" * 30), 2, ("2^63 - 1",)),
    (("run", "--rounds", "9", "--max-rounds", "8"), 2, ("max_rounds is 8", "is 9", "--max-rounds")),
    (("run", "--threshold", "2"), 2, ("threshold is '2'", "'2%'")),
    (("run", "--width", "-5"), 2, ("--width is -5", "at least 20")),
    (("run", "--width", "0"), 2, ("--width is 0", "at least 20")),
    (("run", "--root", "2"), 2, ("rank 2", "ranks 0 to 1")),
    (("run", "--nproc", "0"), 2, ("--nproc is 0", "at least 1")),
    (("run", "--nnodes", "0"), 2, ("--nnodes is 0", "at least 1")),
    (("run", "--nnodes", "2"), 2, ("no address where the nodes can meet", "--rdzv-endpoint HOST:PORT")),
    (("run", "--nnodes", "2", "--rdzv-endpoint", "node0"), 2, ("'node0'", "HOST:PORT")),
    (("run", *TWO_NODES, "--node-rank", "2"), 2, ("--node-rank is 2", "0 to 1")),
    (("run", "--launch", "--attach"), 2, ("--launch and --attach exclude each other",)),
    (("run", "--attach"), 2, ("no ranks to join", "torchrun")),
    (("run", *FLOAT8), 2, ("nothing is left to measure", "Gloo does not reduce float8")),
    (("run", "--timing", "graph"), 2, ("no timing is left", "no CUDA graphs")),
    (("run", "--timing", "gated", "--caller-stream", "default"), 2, ("no timing is left", "runs inline")),
    (("run", "--timing", "enqueue", "--per-iteration"), 2, ("add eager or gated",)),
    (("run", "missing.toml"), 2, ("missing.toml cannot be read", "No such file")),
    (("run", "a-run"), 2, ("a-run cannot be read", "directory")),
    (("run", "bad-key.toml"), 2, ("bad-key.toml", "'timout_s'", "did you mean 'timeout_s'?")),
    (("run", "bad-syntax.toml"), 2, ("bad-syntax.toml is not TOML",)),
    (("run", "bad-device.toml"), 2, ("['cpu']", "cuda, cpu")),
    (("run", "--name", "../out"), 2, ("'../out'", "letters, digits")),
    (("run", "--out", "mine.toml"), 2, ("mine.toml cannot be written", "--out")),
    (("run", "--out", "mine.toml/run"), 2, ("mine.toml/run cannot be written", "--out")),
    (("run", "--out", "/proc/nccl-bench/run"), 2, ("/proc/nccl-bench/run cannot be written", "--out")),
    (("run", "--out", "a-run"), 2, ("a-run already holds a run", "--out")),
    (("run", "--arms", "coordinator", "--routes", "eager"), 2, ("'eager'", "[OPERATION.]MODE=BACKEND")),
    (("run", "--arms", "torch", "--routes", "eager=torch"), 2, ("'eager=torch'", "coordinator", "add one with --arms")),
    (
        ("list", "arms", "arm"),
        2,
        ("'arm'", "arms, user_arms, collectives, dtypes, redops, timings, devices, probes, routes"),
    ),
    (("list", "arms", "--routes", "eager=torch"), 2, ("--routes", "not among those given")),
    (("list", "--routes", "eager=nccl"), 2, ("'eager=nccl'", "[OPERATION.]MODE=BACKEND")),
    (("list", "--width", "19"), 2, ("--width is 19", "at least 20")),
    (("report", "missing"), 3, ("missing is not a run", "not there")),
    (("report", "mine.toml"), 3, ("mine.toml is not a run", "a file")),
    (("report", "."), 3, ("no run.json",)),
    (("report", "a-run", "--json", "--csv"), 2, ("--json, --csv and --format exclude each other",)),
    (("report", "a-run", "--width", "19"), 2, ("--width is 19", "at least 20")),
]
# Those that Typer refuses, in words of its own.
TYPERS: list[tuple[tuple[str, ...], str]] = [
    (("run", "-m", "3"), "-m"),
    (("run", "--iterations", "3"), "--iterations"),
    (("run", "--rounds", "many"), "--rounds"),
    (("run", "--rounds"), "--rounds"),
    (("run", "mine.toml", "another.toml"), "another.toml"),
    (("report",), "directory"),
    (("measure",), "measure"),
]


@pytest.fixture
def bad_files(here: Path) -> Path:
    (here / "bad-key.toml").write_text("timout_s = 3\n", encoding="utf-8")
    (here / "bad-syntax.toml").write_text("rounds = = 3\n", encoding="utf-8")
    (here / "bad-device.toml").write_text("device = ['cpu']\n", encoding="utf-8")
    return here


def assert_one_message(stderr: str, says: tuple[str, ...]) -> None:
    assert stderr.startswith("nccl-bench: ")
    assert stderr.count("nccl-bench: ") == 1
    assert "Traceback" not in stderr
    assert all(text in stderr for text in says), stderr


@pytest.mark.parametrize(("arguments", "code", "says"), BAD, ids=[" ".join(bad[0])[:60] for bad in BAD])
def test_bad_input_gets_its_exit_code_and_one_message_and_leaves_nothing_behind(
    arguments: tuple[str, ...], code: int, says: tuple[str, ...], bad_files: Path, command_line: CommandLine
) -> None:
    before = tree(bad_files)
    found, stdout, stderr = command_line.run(*arguments)
    assert (found, stdout) == (code, "")
    assert_one_message(stderr, says)
    assert tree(bad_files) == before


@pytest.mark.parametrize(("arguments", "says"), TYPERS, ids=[" ".join(bad[0]) for bad in TYPERS])
def test_what_is_no_option_is_refused_by_name(
    arguments: tuple[str, ...], says: str, here: Path, command_line: CommandLine
) -> None:
    before = tree(here)
    code, stdout, stderr = command_line.run(*arguments)
    assert (code, stdout) == (2, "")
    assert says in stderr
    assert "Traceback" not in stderr
    assert tree(here) == before


@pytest.mark.parametrize(
    ("env", "code", "says"),
    [
        (TORCHRUN | {"WORLD_SIZE": "0"}, 3, ("WORLD_SIZE is '0'", "--launch")),
        (TORCHRUN | {"RANK": "2"}, 3, ("RANK is '2'", "0 to 1")),
        ({"OMPI_COMM_WORLD_RANK": "1"}, 3, ("OMPI_COMM_WORLD_SIZE is not set",)),
    ],
)
def test_a_launcher_that_contradicts_itself_is_a_matter_of_set_up(
    env: Mapping[str, str], code: int, says: tuple[str, ...], here: Path, command_line: CommandLine
) -> None:
    before = tree(here)
    found, stdout, stderr = command_line.run("run", env=env)
    assert (found, stdout) == (code, "")
    assert_one_message(stderr, says)
    assert tree(here) == before


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("run", "--arms", "x"), 2), (("run", "--out", "mine.toml"), 2), (("report", "missing"), 3)],
    ids=["arms", "out", "report"],
)
@pytest.mark.usefixtures("here")
def test_the_process_itself_ends_that_way(arguments: tuple[str, ...], code: int) -> None:
    found, stdout, stderr = run_process("-m", "nccl_bench", *arguments)
    assert (found, stdout) == (code, "")
    assert_one_message(stderr, ())


def run_process(*arguments: str, stdout: int = subprocess.PIPE) -> tuple[int, str, str]:
    """What a process of its own ends with."""
    process = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    return process.returncode, process.stdout or "", process.stderr


PRINTING = [("list",), ("report", "a-run"), ("run", "--dry-run"), ("--version",), ("run", "--help")]


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
@pytest.mark.usefixtures("here")
def test_what_cannot_be_printed_is_one_message(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        code, _, stderr = run_process("-m", "nccl_bench", *arguments, stdout=full.fileno())
    assert code == ExitCode.SETUP
    assert stderr.count("\n") == 1
    assert_one_message(stderr, ("what is printed", "No space left on device"))


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
@pytest.mark.usefixtures("here")
def test_a_reader_that_has_enough_is_no_error_to_speak_of(arguments: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        code, _, stderr = run_process("-m", "nccl_bench", *arguments, stdout=writer)
    finally:
        os.close(writer)
    assert (code, stderr) == (1, "")


# -- interruptions -------------------------------------------------------------------------------------------------


def interrupt(*_arguments: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("arguments", [("run",), ("report", "a-run")])
def test_ctrl_c_is_one_message_and_130(
    arguments: tuple[str, ...], command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "run_launched", interrupt)
    monkeypatch.setattr(session, "print_report", interrupt)
    code, stdout, stderr = command_line.run(*arguments)
    assert (code, stdout) == (ExitCode.INTERRUPTED, "")
    assert_one_message(stderr, ("interrupted",))


@pytest.mark.parametrize("module", ["nccl_bench.cli", "nccl_bench.cli.run", "nccl_bench.cli.session"])
def test_ctrl_c_while_modules_are_imported_is_one_message_and_130(module: str) -> None:
    program = (
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {module!r}: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from nccl_bench.__main__ import main\n"
        "main()\n"
    )
    assert run_process("-c", program, "list") == (ExitCode.INTERRUPTED, "", "nccl-bench: interrupted\n")


def test_ctrl_c_outside_of_any_command_is_one_message_and_130(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(COMMANDS["list"].__class__, "parse_args", interrupt)
    assert command_line.run("list") == (ExitCode.INTERRUPTED, "", "nccl-bench: interrupted\n")


@pytest.fixture
def attached(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line as rank 0 of a launch in which measuring gives some lines and then raises."""

    def run(error: BaseException, lines: Sequence[Line], case_index: int = 0) -> tuple[int, str, str]:
        def measure(spec: Any, progress: Any) -> None:
            for line in lines:
                RunStore(path=Path(spec.run_dir)).append(line)
            progress.update(case_index=case_index, arm="torch", phase="eager", deadline_s=None)
            progress.finish()
            raise error

        monkeypatch.setitem(sys.modules, "nccl_bench.bench.worker", SimpleNamespace(measure=measure))
        return command_line.run("run", "--sizes", "1K,2K", "--out", "there")

    def leave(code: int) -> None:
        raise SystemExit(code)

    for name in TORCHRUN:
        # What the rank sets is gone after the test, too.
        monkeypatch.setenv(name, TORCHRUN[name])
    monkeypatch.setattr(session, "_leave", leave)
    return run


def test_ctrl_c_in_an_attached_rank_keeps_and_shows_what_was_measured(
    here: Path, attached: Callable[..., tuple[int, str, str]]
) -> None:
    code, stdout, stderr = attached(KeyboardInterrupt(), [samples()])
    assert code == ExitCode.INTERRUPTED
    assert "gated latency" in stdout
    assert "INTERRUPTED" in stdout
    assert "what was measured before is kept" in stderr
    run = Run.load(here / "there")
    assert run.meta["status"] == "interrupted"
    assert len(run.lines) == 1
    assert "stream-free" in (here / "there" / "summary.csv").read_text(encoding="utf-8")


# -- how a run ends ------------------------------------------------------------------------------------------------


def swept(error: Exception | None, lines: Sequence[Line] = (), **outcome: Any) -> Callable[..., Outcome]:
    """A sweep that gives some lines, and then raises or ends."""

    def run_sweep(spec: Any, *_arguments: object, **_keywords: object) -> Outcome:
        for line in lines:
            RunStore(path=Path(spec.run_dir)).append(line)
        if error is not None:
            raise error
        ended: dict[str, Any] = {"attempts": 1, "hangs": (), "crashes": (), "stopped": None}
        return Outcome(**(ended | outcome))

    return run_sweep


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("mode", ["launched", "attached"])
def test_a_second_signal_costs_nothing_of_what_was_measured(
    mode: str,
    number: signal.Signals,
    here: Path,
    command_line: CommandLine,
    attached: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finish, show = RunStore.finish, session.print_report

    def interrupted_finish(store: RunStore, status: Any) -> None:
        os.kill(os.getpid(), number)
        finish(store, status)

    def interrupted_show(run: Run, output: Output) -> None:
        os.kill(os.getpid(), number)
        show(run, output)

    def fail(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RunStore, "finish", interrupted_finish)
    monkeypatch.setattr(session, "print_report", interrupted_show)
    before = signal.signal(number, fail)
    try:
        if mode == "attached":
            code, stdout, stderr = attached(KeyboardInterrupt(), [samples()])
        else:
            error = InterruptedRunError("interrupted by SIGINT")
            monkeypatch.setattr(session, "run_sweep", swept(error, [samples()]))
            code, stdout, stderr = command_line.run("run", "--launch", "--out", "there")
        assert signal.getsignal(number) is fail
    finally:
        signal.signal(number, before)
    assert code == ExitCode.INTERRUPTED
    assert "gated latency" in stdout
    assert f"recorded in {here / 'there'}" in stderr
    assert "interrupted by SIGINT; what was measured before is kept\n" in stderr
    assert Run.load(here / "there").meta["status"] == "interrupted"
    assert "stream-free" in (here / "there" / "summary.csv").read_text(encoding="utf-8")


def test_a_signal_between_the_sweep_and_the_closing_is_ignored_too(
    here: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Display.__exit__

    def interrupted_stop(self: Display, *exception: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        stop(self, *exception)

    monkeypatch.setattr(Display, "__exit__", interrupted_stop)
    monkeypatch.setattr(session, "run_sweep", swept(None, [samples()]))
    assert command_line.run("run", "--out", "there")[0] == ExitCode.OK
    assert Run.load(here / "there").meta["status"] == "complete"


def test_set_up_that_fails_on_a_relaunch_keeps_and_shows_what_was_measured(
    here: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "run_sweep", swept(SetupError("no set-up"), [samples(), crash()]))
    code, stdout, stderr = command_line.run("run", "--out", "there")
    assert code == ExitCode.SETUP
    assert "gated latency" in stdout
    assert "FAILED" in stdout
    assert stderr == f"nccl-bench: recorded in {here / 'there'}\nnccl-bench: no set-up\n"
    assert "stream-free" in (here / "there" / "summary.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(("index", "size_bytes"), [(1, 2048), (-1, None), (2, None)])
def test_an_attached_rank_that_raises_keeps_and_shows_what_was_measured_and_says_where(
    index: int, size_bytes: int | None, here: Path, attached: Callable[..., tuple[int, str, str]]
) -> None:
    code, stdout, stderr = attached(RuntimeError("Connection closed by peer"), [samples()], index)
    assert code == ExitCode.SETUP
    assert "gated latency" in stdout
    assert "CRASH: " in stdout
    assert f"recorded in {here / 'there'}" in stderr
    run = Run.load(here / "there")
    assert run.meta["status"] == "failed"
    line = run.lines[-1]
    assert isinstance(line, Crash)
    assert (line.case and line.case.size_bytes, line.case_index, line.arm, line.rank) == (size_bytes, index, "torch", 0)
    assert line.message == f"rank 0 on {line.host} ended with exit code 3: RuntimeError: Connection closed by peer"
    assert (here / "there" / "summary.csv").read_text(encoding="utf-8").count("\n") == 3


@pytest.mark.parametrize("mode", ["launched", "attached"])
def test_of_a_run_that_measured_nothing_only_the_error_is_shown(
    mode: str,
    here: Path,
    command_line: CommandLine,
    attached: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "run_sweep", swept(SetupError("no set-up"), [crash(case=None)]))
    if mode == "attached":
        code, stdout, stderr = attached(SetupError("no set-up"), [], -1)
    else:
        code, stdout, stderr = command_line.run("run", "--launch", "--out", "there")
    assert (code, stdout) == (ExitCode.SETUP, "")
    assert_one_message(stderr, ("no set-up",))
    run = Run.load(here / "there")
    assert run.meta["status"] == "failed"
    assert [type(line) for line in run.lines] == [Crash]


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        ({}, ExitCode.OK),
        ({"crashes": (crash(),)}, ExitCode.SETUP),
        ({"hangs": (hang(),), "crashes": (crash(),)}, ExitCode.HANG),
        ({"crashes": (crash(),), "stopped": "the arm torch crashed in 3 cases running"}, ExitCode.SETUP),
    ],
)
def test_nodes_without_records_end_with_the_code_of_what_they_saw(
    outcome: dict[str, Any], code: ExitCode, here: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "run_sweep", swept(None, **outcome))
    found, stdout, _ = command_line.run("run", *TWO_NODES, "--node-rank", "1", "--out", "there")
    assert (found, stdout) == (code, "")
    assert not (here / "there").exists()


@pytest.mark.parametrize(("line", "code"), [(hang(), ExitCode.HANG), (crash(), ExitCode.SETUP)])
def test_a_run_ends_with_the_code_of_its_worst_case_and_keeps_the_others(
    line: Line, code: ExitCode, here: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "run_sweep", swept(None, [samples(), line]))
    found, stdout, _ = command_line.run("run", "--out", "there")
    assert found == code
    assert "gated latency" in stdout
    run = Run.load(here / "there")
    assert (run.meta["status"], len(run.lines)) == ("complete", 2)


def test_a_run_of_which_every_case_was_skipped_is_no_success_and_says_so(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "run_sweep", swept(None, [Skipped(case=case(), reason="its buffers do not fit")]))
    code, stdout, _ = command_line.run("run", "--out", "there")
    assert code == ExitCode.SETUP
    assert "EMPTY: nothing was measured: 1 case skipped" in " ".join(stdout.split())


# -- the display ---------------------------------------------------------------------------------------------------


def displayed(width: int) -> str:
    """The line of the display in the middle of a long case."""
    config = resolve("cpu", {"collectives": "reduce_scatter", "sizes": "1536K", "dtypes": "bfloat16"})
    cases = make_plan(config, 2).cases
    display = Display(len(cases), lambda index: case_label(cases[index].case))
    display.show(
        [
            Position(
                rank=0,
                local_rank=0,
                host="here",
                pid=1,
                case_index=0,
                arm="dedicated-stream-wait-stream",
                phase="check before timing, waiting",
            )
        ]
    )
    console = Console(width=width, file=io.StringIO(), legacy_windows=False)
    console.print(display._progress.get_renderable())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_in_80_columns_the_display_cuts_what_it_says_and_not_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    narrow, wide = displayed(80), displayed(200)
    assert narrow.count("\n") == 1
    assert re.match(r"0/1 .{12} (-:--:--|\d:\d\d:\d\d) reduce_scatter 1\.5M bfloat16 sum in-place .*\u2026\s*$", narrow)
    assert "in-place dedicated-stream-wait-stream check before timing, waiting" in wide


def test_more_ranks_than_gpus_are_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hardware, "gpu_count", lambda environ: 2)
    monkeypatch.setattr(sys, "argv", ["nccl-bench", "run", "--device", "cuda", "--nproc", "3", "--dry-run"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "--nproc is 3, and this node has 2 GPUs" in capsys.readouterr().err
