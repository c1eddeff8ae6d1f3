"""Every spelling of every option changes what it should."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nccl_bench.catalog.cases import Scenario
from nccl_bench.catalog.collectives import Placement, RedOp
from nccl_bench.catalog.memory import Register
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.run import CallerStream, Memory, RunConfig
from nccl_bench.errors import ExitCode
from nccl_bench.report import Detail
from tests.support.command_line import (
    COMMANDS,
    RANKS,
    ROOT,
    TORCHRUN,
    TWO_NODES,
    CommandLine,
    Observed,
    configured,
    sizes,
)
from tests.support.workloads import WORKLOAD

# A model of two layers, for --model.
MODEL = "layers=2,hidden=64,tokens=4"


@dataclass(frozen=True, kw_only=True)
class Example:
    """An option, and what a command line with it leads to. Without it, the command line leads to something else."""

    look: Callable[[Observed], object]  # picks the part of the outcome that the option decides
    gives: object  # that part, with the option
    value: str | None = None  # the option's value; None for a flag
    base: tuple[str, ...] = ()  # the other arguments
    env: Mapping[str, str] = field(default_factory=dict)  # environment variables
    refusal: str = ""  # a part of the refusal without the option; empty if the command line is valid without it


def source_of_workload(observed: Observed) -> object:
    return observed.config.workload and observed.config.workload.source  # type: ignore[union-attr]


def is_written(file: str) -> Callable[[Observed], bool]:
    return lambda _observed: Path(file).is_file()


def launched(name: str) -> Callable[[Observed], object]:
    return lambda observed: getattr(observed.launch, name)


def output(name: str) -> Callable[[Observed], object]:
    return lambda observed: getattr(observed.output, name)


def allowed(observed: Observed) -> bool | None:
    return observed.allow_recorded_code


def action(observed: Observed) -> object:
    return observed.action


def listed(observed: Observed) -> object:
    return tuple(re.findall(r"(?m)^\w+$", observed.printed))


def user_arms(observed: Observed) -> object:
    assert observed.config is not None
    return [(user_arm.name, user_arm.tree) for user_arm in observed.config.user_arms]


def ends(observed: Observed) -> object:
    assert isinstance(observed.config, RunConfig)
    return observed.config.sizes[0], observed.config.sizes[-1]


CHAIN = ("--scenario", "chain")
FROM_TREES = ("--arm", "m:C", "--before-tree", "x", "--after-tree", "y")
RUN_OPTIONS: Mapping[str, Example] = {
    "config": Example(value="mine.toml", look=configured("rounds"), gives=2),
    "preset": Example(value="quick", look=configured("rounds"), gives=5),
    "model": Example(value=MODEL, look=source_of_workload, gives=(f"--model {MODEL}",)),
    "begin": Example(value="64", look=ends, gives=(64, 64 * 8**4)),
    "end": Example(value="4K", look=ends, gives=(8, 4096)),
    "factor": Example(value="4", base=("-b", "8", "-e", "128"), look=sizes, gives=(8, 32, 128)),
    "step": Example(value="8", base=("-b", "8", "-e", "32"), look=sizes, gives=(8, 16, 24, 32)),
    "scenario": Example(value="chain", look=configured("scenario"), gives=Scenario.CHAIN),
    "hidden": Example(value="64,4K", base=CHAIN, look=configured("hidden"), gives=(64, 4096)),
    "tokens": Example(value="1:4:x2", base=CHAIN, look=configured("tokens"), gives=(1, 2, 4)),
    "layers": Example(value="80", base=CHAIN, look=configured("layers"), gives=(80,)),
    "workload": Example(value="workload.toml", look=configured("workload"), gives=WORKLOAD),
    "delays": Example(value="0,20", base=("--scenario", "skew"), look=configured("delays"), gives=(0, 20)),
    "sizes": Example(value="1K,2K", look=sizes, gives=(1024, 2048)),
    "collectives": Example(value="reduce", look=configured("collectives"), gives=("reduce",)),
    "dtypes": Example(value="half", look=configured("dtypes"), gives=("float16",)),
    "redops": Example(value="max", look=configured("redops"), gives=(RedOp.MAX,)),
    "placements": Example(value="out-of-place", look=configured("placements"), gives=(Placement.OUT_OF_PLACE,)),
    "product": Example(value="8,16,32", base=("--scenario", "overlap"), look=configured("product"), gives=(8, 16, 32)),
    "streams": Example(value="2", base=("--scenario", "contended"), look=configured("streams"), gives=(2,)),
    "root": Example(value="1", look=configured("root"), gives=1),
    "arms": Example(value="transport", look=configured("arms"), gives=("transport",)),
    "user_arms": Example(value="mine=m:C", look=user_arms, gives=[("mine", None)]),
    "before_tree": Example(value="old", base=FROM_TREES, look=user_arms, gives=[("before", "old"), ("after", "y")]),
    "after_tree": Example(value="new", base=FROM_TREES, look=user_arms, gives=[("before", "x"), ("after", "new")]),
    "baseline": Example(value="torch", look=configured("baseline"), gives="torch"),
    "routes": Example(
        value="eager=communicator",
        base=("--arms", "coordinator"),
        look=configured("routes"),
        gives=("eager=communicator",),
    ),
    "timings": Example(value="gated", look=configured("timings"), gives=(Timing.GATED,)),
    "launches": Example(value="3", look=configured("launches"), gives=3),
    "rounds": Example(value="3", look=configured("rounds"), gives=3),
    "min_rounds": Example(value="2", look=configured("min_rounds"), gives=2),
    "max_rounds": Example(value="30", look=configured("max_rounds"), gives=30),
    "max_seconds": Example(value="90", look=configured("max_seconds"), gives=90.0),
    "threshold": Example(value="5%", look=configured("threshold"), gives=0.05),
    "ops_per_batch": Example(value="20", look=configured("ops_per_batch"), gives=20),
    "warmup": Example(value="1", look=configured("warmup"), gives=1),
    "check": Example(value="0", look=configured("check"), gives=False),
    "per_iteration": Example(look=configured("per_iteration"), gives=True),
    "cost_split": Example(look=configured("cost_split"), gives=True),
    "tuning": Example(base=("--device", "cuda"), look=configured("tuning"), gives=True),
    "profile": Example(look=configured("profile"), gives=True),
    "nvtx": Example(base=("--device", "cuda"), look=configured("nvtx"), gives=True),
    "same_buffer": Example(look=configured("same_buffer"), gives=True),
    "register": Example(value="window", base=("--device", "cuda"), look=configured("register"), gives=Register.WINDOW),
    "memory": Example(value="nccl", base=("--device", "cuda"), look=configured("memory"), gives=Memory.NCCL),
    "caller_stream": Example(value="default", look=configured("caller_stream"), gives=CallerStream.DEFAULT),
    "seed": Example(value="7", look=configured("seed"), gives=7),
    "timeout_s": Example(value="2.5", look=configured("timeout_s"), gives=2.5),
    "device": Example(value="cuda", look=configured("device"), gives="cuda"),
    "nccl_library": Example(
        value="/opt/libnccl.so.2", base=("--device", "cuda"), look=configured("nccl_library"), gives="/opt/libnccl.so.2"
    ),
    "transport": Example(value="nccl4py", base=("--device", "cuda"), look=configured("transport"), gives="nccl4py"),
    "variables": Example(value="NCCL_ALGO=Ring", look=configured("variables"), gives={"NCCL_ALGO": "Ring"}),
    "nproc": Example(value="3", look=launched("nproc"), gives=3),
    "nnodes": Example(value="3", base=TWO_NODES, look=launched("nnodes"), gives=3),
    "node_rank": Example(value="1", base=TWO_NODES, look=launched("node_rank"), gives=1),
    "rdzv_endpoint": Example(value="b:1", base=TWO_NODES, look=launched("rdzv_endpoint"), gives="b:1"),
    "launch": Example(env=TORCHRUN, look=action, gives="launched"),
    "attach": Example(env=RANKS, look=action, gives="attached"),
    "name": Example(value="mine", look=configured("name"), gives="mine"),
    "out": Example(value="there", look=output("out"), gives=Path("there")),
    "save_workload": Example(value="there.toml", base=("--model", MODEL), look=is_written("there.toml"), gives=True),
    "dry_run": Example(look=action, gives="planned"),
    "resume": Example(value="a-run", look=action, gives="resumed"),
    "allow_recorded_code": Example(base=("--resume", "a-run"), look=allowed, gives=True),
    "limits": Example(value="limits.toml", look=configured("limits"), gives=({"threshold": "5%", "sizes": ":1K"},)),
    "format": Example(value="markdown", look=output("format"), gives="markdown"),
    "fail_on": Example(value="slower,wrong", look=output("fail_on"), gives=("slower", "wrong")),
    "width": Example(value="132", look=output("width"), gives=132),
    "quiet": Example(look=output("detail"), gives=Detail.QUIET),
    "full": Example(look=output("detail"), gives=Detail.FULL),
}
REPORT_OPTIONS: Mapping[str, Example] = {
    "directory": Example(value="a-run", look=action, gives="reported"),
    "format": Example(value="markdown", base=("a-run",), look=output("format"), gives="markdown"),
    "to": Example(value="page.html", base=("a-run",), look=output("out"), gives=Path("page.html")),
    "width": Example(value="132", base=("a-run",), look=output("width"), gives=132),
    "quiet": Example(base=("a-run",), look=output("detail"), gives=Detail.QUIET),
    "full": Example(base=("a-run",), look=output("detail"), gives=Detail.FULL),
    "anonymous": Example(base=("a-run",), look=lambda observed: observed.analysis.run.directory, gives=None),
}
NCCL_TESTS = str(ROOT / "tests" / "data" / "nccl-tests" / "all_reduce.txt")
OLD_NCCL_TESTS = str(ROOT / "tests" / "data" / "import-cases" / "nccl-2020.txt")
IMPORT_OPTIONS: Mapping[str, Example] = {
    "files": Example(value=NCCL_TESTS, look=lambda observed: "recorded in" in observed.messages, gives=True),
    "collective": Example(
        value="all_reduce",
        base=(OLD_NCCL_TESTS,),
        look=lambda observed: "recorded in" in observed.messages,
        gives=True,
        refusal="--collective NAME",
    ),
    "name": Example(value="mine", base=(NCCL_TESTS,), look=lambda observed: "-mine" in observed.messages, gives=True),
    "out": Example(
        value="there", base=(NCCL_TESTS,), look=lambda observed: observed.messages.endswith("/there\n"), gives=True
    ),
}
LIST_OPTIONS: Mapping[str, Example] = {
    "sections": Example(value="redops", base=("dtypes",), look=listed, gives=("dtypes", "redops")),
    "routes": Example(
        value="graph=torch", look=lambda observed: "torch   communicator" in observed.printed, gives=False
    ),
    "format": Example(value="json", look=lambda observed: observed.printed.startswith("{"), gives=True),
    "width": Example(
        value="132",
        env={"COLUMNS": "80"},
        look=lambda observed: max(map(len, observed.printed.splitlines())) > 80,
        gives=True,
    ),
}
VERIFY_OPTIONS: Mapping[str, Example] = {
    "arms": Example(value="transport", look=configured("arms"), gives=("transport",)),
    "user_arms": Example(value="mine=m:C", look=user_arms, gives=[("mine", None)]),
    "before_tree": Example(value="old", base=FROM_TREES, look=user_arms, gives=[("before", "old"), ("after", "y")]),
    "after_tree": Example(value="new", base=FROM_TREES, look=user_arms, gives=[("before", "x"), ("after", "new")]),
    "probes": Example(value="state", look=configured("probes"), gives=("state",)),
    "routes": Example(
        value="eager=communicator",
        base=("--arms", "coordinator"),
        look=configured("routes"),
        gives=("eager=communicator",),
    ),
    "device": Example(value="cuda", base=("--nproc", "2"), look=configured("device"), gives="cuda"),
    "nproc": Example(value="3", look=launched("nproc"), gives=3),
    "nccl_library": Example(
        value="/opt/libnccl.so.2",
        base=("--device", "cuda", "--nproc", "2"),
        look=configured("nccl_library"),
        gives="/opt/libnccl.so.2",
    ),
    "transport": Example(
        value="nccl4py", base=("--device", "cuda", "--nproc", "2"), look=configured("transport"), gives="nccl4py"
    ),
    "timeout_s": Example(value="2.5", look=configured("timeout_s"), gives=2.5),
    "out": Example(value="there", look=output("out"), gives=Path("there")),
    "resume": Example(value="a-verification", look=action, gives="resumed"),
    "allow_recorded_code": Example(base=("--resume", "a-verification"), look=allowed, gives=True),
    "to": Example(value="page.html", look=output("to"), gives=Path("page.html")),
    "format": Example(value="json", look=output("format"), gives="json"),
    "width": Example(value="132", look=output("width"), gives=132),
    "quiet": Example(look=output("detail"), gives=Detail.QUIET),
    "full": Example(look=output("detail"), gives=Detail.FULL),
    "anonymous": Example(look=output("anonymous"), gives=True),
}
TABLES = {
    "run": RUN_OPTIONS,
    "report": REPORT_OPTIONS,
    "import": IMPORT_OPTIONS,
    "list": LIST_OPTIONS,
    "verify": VERIFY_OPTIONS,
}
# These commands have their own test modules.
ELSEWHERE = ("audit", "compare", "doctor", "guide", "trace")
ALL_OPTIONS = [(command, parameter.name) for command in TABLES for parameter in COMMANDS[command].params]


def parameter(command: str, name: str) -> Any:
    return next(parameter for parameter in COMMANDS[command].params if parameter.name == name)


def test_every_command_and_option_has_an_entry() -> None:
    names = {
        name: {parameter.name for parameter in command.params}
        for name, command in COMMANDS.items()
        if name not in ELSEWHERE
    }
    assert names == {name: set(table) for name, table in TABLES.items()}


@pytest.mark.parametrize(("command", "name"), ALL_OPTIONS)
def test_every_spelling_of_every_option_changes_the_outcome(command: str, name: str, command_line: CommandLine) -> None:
    example = TABLES[command][name]
    described = parameter(command, name)
    values = [] if example.value is None else [example.value]
    if described.param_type_name == "argument":
        result = command_line.observe(command, *example.base, *values)
        assert example.look(result) == example.gives
        return
    if example.refusal:
        assert example.refusal in command_line.run(command, *example.base)[2]
        without = None
    else:
        without = example.look(command_line.observe(command, *example.base, env=example.env))
    assert without != example.gives
    for spelling in described.opts:
        result = command_line.observe(command, *example.base, spelling, *values, env=example.env)
        assert example.look(result) == example.gives, spelling
    for spelling in described.secondary_opts:
        result = command_line.observe(command, *example.base, described.opts[0], spelling)
        assert example.look(result) == without, spelling
        assert example.look(command_line.observe(command, "mine.toml", spelling)) == without, spelling


@pytest.mark.parametrize(
    ("elsewhere", "env", "action"),
    [
        (("--attach",), RANKS | {"MASTER_PORT": "1"}, "attached"),
        (("--nnodes", "2", "--rdzv-endpoint", "node0:29500"), {}, "launched"),
        (("--env", "PYTHONPATH=lib"), {}, "launched"),
    ],
)
def test_a_target_that_one_of_several_nodes_lacks_is_left_to_its_ranks(
    elsewhere: tuple[str, ...], env: Mapping[str, str], action: str, command_line: CommandLine
) -> None:
    assert command_line.observe("run", "--arm", "mine=nosuch:C", *elsewhere, env=env).action == action
    assert command_line.run("run", "--arm", "mine=nosuch:C")[0] == ExitCode.USAGE


def test_report_reads_the_run_that_its_argument_names(command_line: CommandLine, directory: Path) -> None:
    assert (directory / "a-run" / "samples.jsonl").write_text("", encoding="utf-8") == 0
    analyses = [command_line.observe("report", name).analysis for name in ("a-run", "another-run")]
    assert [len(analysis.rows) for analysis in analyses if analysis is not None] == [0, 1]
