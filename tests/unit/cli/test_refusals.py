"""A command line that cannot be carried out ends with its exit code and one message, and leaves nothing behind."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from nccl_bench.errors import ExitCode
from nccl_bench.launch import hardware
from tests.support.command_line import TORCHRUN, TWO_NODES, CommandLine, assert_one_message, run_process, snapshot

FLOAT8 = ("--arms", "all", "--collective", "all_reduce", "--dtype", "float8_e4m3fn")
MODEL = "hidden=64,layers=2,tokens=1"
# The command line, the exit code, and texts of the message.
BAD: list[tuple[tuple[str, ...], int, tuple[str, ...]]] = [
    (("run", "--sizes", "8X"), 2, ("'8X'", "8, 4K, 1M")),
    (("run", "--sizes", "8:1K:x0"), 2, ("factor of the sweep is 0",)),
    (("run", "--sizes", ""), 2, ("empty",)),
    (("run", "--sizes", "8" * 50_000 + "X"), 2, ("more characters ...", "8, 4K, 1M")),
    (("run", "--preset", "lama3-70b"), 2, ("'lama3-70b'", "did you mean 'llama3-70b-tp'", "quick")),
    (("run", "--preset", "limits"), 2, ("'limits'", "allowed are collectives, contended, deepseek-v3-dp")),
    (("run", "--model", "hiden=64"), 2, ("the model has the unknown key 'hiden'", "did you mean 'hidden'?")),
    (("run", "--model", MODEL, "--workload", "workload.toml"), 2, ("a workload and a model", "leave one of them out")),
    (("run", "--model", MODEL, "--nproc", "1"), 2, ("sends nothing on one rank", "--nproc 2")),
    (("run", "--model", MODEL, "--sizes", "8"), 2, ("--sizes is given beside a workload", "leave one of them out")),
    (("run", "--preset", "llama3-70b-tp", "--nproc", "3"), 2, ("3 ranks cannot share 64 attention heads",)),
    (("run", "model.toml"), 2, ("model has the model 3", "give a table, such as [model]")),
    (("run", "--save-workload", "there.toml"), 2, ("--save-workload writes the messages of a model", "--model")),
    (("run", "-b", "1M", "-e", "8"), 2, ("begins at 1M", "8")),
    (("run", "-f", "1"), 2, ("factor of the sweep is 1",)),
    (("run", "-b", "1", "-e", "1G", "-i", "1"), 2, ("over 10000 sizes",)),
    (("run", "-f", "2", "-i", "8"), 2, ("-f and -i exclude each other",)),
    (("run", "--sizes", "8", "-b", "8"), 2, ("--sizes and -b, -e, -f, -i exclude each other",)),
    (("run", "--arm", "mine.py:Mine"), 2, ("'mine.py:Mine' has no name", "NAME=TARGET")),
    (("run", "--arm", "x=stream-free"), 2, ("x is stream-free without any change", "--arms")),
    (("run", "--arm", "x=a.py:A,oder=bare"), 2, ("'oder'", "order, adapter, tree, transport", "capitals")),
    (("run", "--arm", "x=stream-free,library=/x.so"), 2, ("library of the arm x is '/x.so'", "does not use NCCL")),
    (("run", "--device", "cuda", "--arm", "x=torch,library=/no/x.so"), 2, ("the arm x", "'/no/x.so'", "not a file")),
    (("run", "--device", "cuda", "--arm", "x=torch,library=/etc/passwd"), 2, ("the arm x", "has no ncclGetVersion")),
    (("verify", "--device", "cuda", "--arm", "x=torch,library=/no/x.so"), 2, ("the arm x", "'/no/x.so'", "not a file")),
    (("run", "--device", "cuda", "--arm", "x=torch,library=/a b.so"), 2, ("'/a b.so'", "LD_PRELOAD", "a link")),
    (
        ("run", "--arm", "x=torch,python=/no/python"),
        2,
        ("the arm x", "'/no/python'", "No such file", "torch and numpy"),
    ),
    (("run", "--arm", "x=torch,python=/no/python", "--dry-run"), 2, ("the arm x", "'/no/python'", "does not start")),
    (("verify", "--arm", "x=torch,python=/bin/ls"), 2, ("the arm x", "'/bin/ls'", "no Python", "3.11 or later")),
    (("run", "--arm", "x=stream-free,RANK=1"), 2, ("RANK", "find each other")),
    (("run", "--env", "MASTER_PORT=1"), 2, ("MASTER_PORT", "find each other")),
    (("run", "--arm", "stream-free"), 2, ("a built-in arm", "--arms")),
    (("run", "--arm", "x=stream-free,order=bare,A=1"), 2, ("order of the arm x", "takes no order")),
    (("run", "--arm", "x=torch,transport=nccl"), 2, ("only these arms take one", "stream-free")),
    (("run", "--arm", "x=stream-free,transport=nccl"), 2, ("transport of the arm x is 'nccl'", "gloo")),
    (("run", "--arm", "x=m:C,transport=gloo"), 2, ("x has its own transport",)),
    (("run", "--arm", "x=nccl4py,A=1"), 2, ("x is nccl4py", "does not run on the device cpu")),
    (("run", "--arm", "x=dedicated-stream-unordered,A=1"), 2, ("the arm x has the order bare", "verify")),
    (("run", "--before-tree", "x"), 2, ("belong together",)),
    (("run", "--arm", "mine=nosuch.py:C"), 2, ("the arm mine", "no Python file nosuch.py", "path/to/file.py:NAME")),
    (("run", "--arm", "mine=nosuch.py:C", "--dry-run"), 2, ("the arm mine", "no Python file nosuch.py")),
    (("verify", "--arm", "mine=nosuch.py:C"), 2, ("the arm mine", "no Python file nosuch.py")),
    (
        ("run", "--arm", "mine=nosuch.comm:C"),
        2,
        ("the arm mine", "no module nosuch.comm", "or among the installed modules"),
    ),
    (("run", "--arm", "mine=m.py:"), 2, ("the arm mine", "'m.py:' is no target", "path/to/file.py:NAME")),
    (("run", "--arm", "mine=m:C,tree=nosuch"), 2, ("the arm mine", "the tree nosuch is no directory")),
    (("run", "--arm", "nosuch"), 2, ("the arm nosuch", "entry point 'nosuch' is unknown")),
    (("run", "--env", "NCCL_ALGO"), 2, ("--env is 'NCCL_ALGO'", "NAME=VALUE")),
    (("run", "--env", "path=x"), 2, ("'path'", "capitals")),
    (("run", "--transport", "nccl4py"), 2, ("'nccl4py'", "gloo")),
    (("verify", "--transport", "nccl4py"), 2, ("'nccl4py'", "gloo")),
    (("verify", "--arms", "nccl4py"), 2, ("'nccl4py'", "allowed are stream-free")),
    (("run", "--arms", "stream-fre"), 2, ("'stream-fre'", "stream-free")),
    (("run", "--arms", "dedicated-stream-unordered"), 2, ("--arms has 'dedicated-stream-unordered'", "Allowed are")),
    (("run", "--arms", "streamfree"), 2, ("--arms has 'streamfree'", "did you mean 'stream-free'?")),
    (("run", "--collective", "allreduce"), 2, ("--collective has 'allreduce'", "did you mean 'all_reduce'?")),
    # An option is named as it was typed.
    (("run", "-b", "6s"), 2, ("-b: '6s'", "did you mean 6, 6K or 6M?")),
    (("run", "-b6s"), 2, ("-b: '6s'",)),
    (("run", "--begin=6s"), 2, ("--begin: '6s'",)),
    (("run", "--sizes", "8,6s"), 2, ("--sizes: '6s'",)),
    (("run", "--sizes", "1M:8:x2"), 2, ("--sizes: the sweep begins at 1M", "did you mean 8:1M:x2?")),
    (("run", "-b", "1M", "--end", "8"), 2, ("-b, --end: the sweep begins at 1M", "did you mean 8:1M:")),
    (("run", "--max-seconds", "6s"), 2, ("--max-seconds is '6s': did you mean 6?",)),
    (("run", "-T", "1.5m"), 2, ("-T is '1.5m': give a number",)),
    (("run", "--nproc=two"), 2, ("--nproc is 'two': give a whole number",)),
    (("run", "-n5x"), 2, ("-n is '5x': give a whole number",)),
    (("compare", "a", "b", "--width", "wide"), 2, ("--width is 'wide': give a whole number",)),
    (("run", "-n", "0"), 2, ("-n is 0",)),
    (("run", "--iters", "0"), 2, ("--iters is 0",)),
    (("verify", "--device", "cud"), 2, ("--device is 'cud'", "did you mean 'cuda'?")),
    # Typer ends with a box around its messages; an unknown option is one line.
    (("run", "--siezs", "8"), 2, ("run has no option --siezs", "did you mean '--sizes'?", "run --help")),
    (("compare", "a", "--thresold", "3"), 2, ("compare has no option --thresold", "did you mean '--threshold'?")),
    (("run", "--baseline", "transport"), 2, ("--baseline is 'transport'", "no arm of this run")),
    (("run", "--collective", "allreduce"), 2, ("'allreduce'", "all_reduce")),
    (("run", "--device", ""), 2, ("''", "cuda, cpu")),
    (("run", "--device", "tpu"), 2, ("'tpu'", "cuda, cpu")),
    (("run", "--caller-stream", "all"), 2, ("'all'", "side, default")),
    (("run", "--nccl-library", "libnccl.so"), 2, ("'libnccl.so'", "cpu")),
    (("run", "--check", "2"), 2, ("check is 2", "true or false")),
    (("run", "-T", "nan"), 2, ("nan", "above 0")),
    (("run", "--rounds", "9" * 30), 2, ("2^63 - 1",)),
    (("run", "--rounds", "9", "--max-rounds", "8"), 2, ("max_rounds is 8", "less than rounds (9)", "--max-rounds")),
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
    (
        ("run", "--timing", "gated", "--caller-stream", "default"),
        2,
        ("no timing is left", "no gate can hold the work back"),
    ),
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
    (("run", "--out", "a-run"), 2, ("a-run already holds a record", "--out")),
    (("run", "--arms", "coordinator", "--routes", "eager"), 2, ("'eager'", "[OPERATION.]MODE=BACKEND")),
    (("run", "--arms", "torch", "--routes", "eager=torch"), 2, ("'eager=torch'", "coordinator", "add one with --arms")),
    (
        ("list", "arms", "arm"),
        2,
        ("'arm'", "arms, user_arms, collectives, dtypes, redops, scenarios, timings, devices, probes, presets, routes"),
    ),
    (("list", "arms", "--routes", "eager=torch"), 2, ("--routes", "add routes to the sections")),
    (("list", "--routes", "eager=nccl"), 2, ("'eager=nccl'", "[OPERATION.]MODE=BACKEND")),
    (("list", "--width", "19"), 2, ("--width is 19", "at least 20")),
    (("report", "missing"), 3, ("missing is not a run", "does not exist")),
    (("report", "mine.toml"), 3, ("mine.toml is not a run", "a file")),
    (("report", "."), 3, ("no run.json",)),
    (("run", "--format", "pdf"), 2, ("--format is 'pdf'", "terminal, markdown, csv, json")),
    (("report", "a-run", "--format", "tables"), 2, ("--format is 'tables'", "terminal, markdown, csv, json")),
    (("list", "--format", "csv"), 2, ("--format csv was given with 11 sections", "give one of arms, user_arms")),
    (("list", "dtypes", "arms", "--format", "csv"), 2, ("with 2 sections", "give one of dtypes, arms")),
    (("list", "--format", "html"), 2, ("--format is 'html'", "terminal, markdown, csv, json")),
    (("verify", "--format", "svg"), 2, ("--format is 'svg'", "terminal, markdown, csv, json, html")),
    (("compare", "a-run", "--format", "tables"), 2, ("--format is 'tables'", "terminal, markdown, csv, json")),
    (("report", "a-run", "--width", "19"), 2, ("--width is 19", "at least 20")),
]
# Command lines that Typer refuses with its own message.
REFUSED_BY_TYPER: list[tuple[tuple[str, ...], str]] = [
    (("run", "-l", "3"), "-l"),
    (("run", "--iterations", "3"), "--iterations"),
    (("run", "--rounds"), "--rounds"),
    (("run", "mine.toml", "another.toml"), "another.toml"),
    (("report",), "directory"),
    (("measure",), "measure"),
]


@pytest.fixture
def bad_files(directory: Path) -> Path:
    (directory / "bad-key.toml").write_text("timout_s = 3\n", encoding="utf-8")
    (directory / "bad-syntax.toml").write_text("rounds = = 3\n", encoding="utf-8")
    (directory / "bad-device.toml").write_text("device = ['cpu']\n", encoding="utf-8")
    return directory


@pytest.mark.parametrize(("arguments", "code", "texts"), BAD, ids=[" ".join(bad[0])[:60] for bad in BAD])
def test_bad_input_ends_with_its_exit_code_and_one_message_and_leaves_nothing_behind(
    arguments: tuple[str, ...], code: int, texts: tuple[str, ...], bad_files: Path, command_line: CommandLine
) -> None:
    before = snapshot(bad_files)
    ended, stdout, stderr = command_line.run(*arguments)
    assert (ended, stdout) == (code, "")
    assert_one_message(stderr, texts)
    assert snapshot(bad_files) == before


@pytest.mark.parametrize(("arguments", "text"), REFUSED_BY_TYPER, ids=[" ".join(bad[0]) for bad in REFUSED_BY_TYPER])
def test_typer_refuses_an_unknown_option_by_its_name(
    arguments: tuple[str, ...], text: str, directory: Path, command_line: CommandLine
) -> None:
    before = snapshot(directory)
    code, stdout, stderr = command_line.run(*arguments)
    assert (code, stdout) == (2, "")
    assert text in stderr
    assert "Traceback" not in stderr
    assert snapshot(directory) == before


@pytest.mark.parametrize(
    ("env", "code", "texts"),
    [
        (TORCHRUN | {"WORLD_SIZE": "0"}, 3, ("WORLD_SIZE is '0'", "--launch")),
        (TORCHRUN | {"RANK": "2"}, 3, ("RANK is '2'", "0 to 1")),
        ({"OMPI_COMM_WORLD_RANK": "1"}, 3, ("OMPI_COMM_WORLD_SIZE is not set",)),
    ],
)
def test_variables_of_a_launcher_that_contradict_each_other_are_refused(
    env: Mapping[str, str], code: int, texts: tuple[str, ...], directory: Path, command_line: CommandLine
) -> None:
    before = snapshot(directory)
    ended, stdout, stderr = command_line.run("run", env=env)
    assert (ended, stdout) == (code, "")
    assert_one_message(stderr, texts)
    assert snapshot(directory) == before


def test_ranks_of_another_launcher_cannot_be_launched_again(directory: Path, command_line: CommandLine) -> None:
    before = snapshot(directory)
    ended, stdout, stderr = command_line.run("run", "--launches", "2", env=TORCHRUN)
    assert (ended, stdout) == (2, "")
    assert_one_message(stderr, ("--launches is 2", "torchrun has started the ranks", "nccl-bench compare"))
    assert snapshot(directory) == before


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("run", "--arms", "x"), 2), (("report", "missing"), 3)],
    ids=["run", "report"],
)
@pytest.mark.usefixtures("directory")
def test_a_whole_process_ends_with_the_exit_code_and_one_message(arguments: tuple[str, ...], code: int) -> None:
    ended, stdout, stderr = run_process("-m", "nccl_bench", *arguments)
    assert (ended, stdout) == (code, "")
    assert_one_message(stderr, ())


# Typer prints the last two, and only `report` flushes what it prints.
PRINTING = [("list",), ("report", "a-run"), ("--version",), ("run", "--help")]


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
@pytest.mark.usefixtures("directory")
def test_a_full_disk_under_standard_output_is_one_message(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        code, _, stderr = run_process("-m", "nccl_bench", *arguments, stdout=full.fileno())
    assert code == ExitCode.SETUP
    assert stderr.count("\n") == 1
    assert_one_message(stderr, ("the output", "No space left on device"))


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
@pytest.mark.usefixtures("directory")
def test_a_closed_pipe_ends_the_process_without_a_message(arguments: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        code, _, stderr = run_process("-m", "nccl_bench", *arguments, stdout=writer)
    finally:
        os.close(writer)
    assert (code, stderr) == (1, "")


def test_more_ranks_than_gpus_are_refused(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "gpu_count", lambda _environ: 2)
    code, _, stderr = command_line.run("run", "--device", "cuda", "--nproc", "3", "--dry-run")
    assert code == ExitCode.USAGE
    assert_one_message(stderr, ("--nproc is 3, and this node has 2 GPUs", "give at most 2"))
