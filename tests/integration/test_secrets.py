"""A secret planted in every place where a user can have one: no command prints it, and no file holds it."""

from __future__ import annotations

import json
import platform
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from nccl_bench.errors import ExitCode
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Crash
from nccl_bench.report import VERIFICATION_FORMATS, Format
from tests.support.command import ROOT, Sandbox

# Every planted value contains this text, and differs, so that a leak shows its place.
SECRET = "pl4nted"
ENVIRONMENT = {
    "NCCL_SECRET_TOKEN": f"{SECRET}-nccl",
    "TORCH_NCCL_PASSWORD": f"{SECRET}-torch",
    "HF_TOKEN": f"{SECRET}-hf",
    "MY_SETTING": f"{SECRET}-setting",
    "HTTPS_PROXY": f"http://me:{SECRET}-proxy@localhost:3128",
}
OPTIONS = ("--env", f"WANDB_API_KEY={SECRET}-env", "--env", "NCCL_ALGO=Ring")
RAISES = f"raises=arms.py:Raises,API_TOKEN={SECRET}-raises"
DIES = f"dies=arms.py:Dies,API_TOKEN={SECRET}-dies"
ARMS = ("--arm", RAISES, "--arm", DIES)
LEAKY = """
import os, sys

SECRETS = [value for value in os.environ.values() if "planted".replace("a", "4", 1) in value]


class Raises:
    def __init__(self, group, device):
        print("in the log:", *SECRETS, file=sys.stderr, flush=True)

    def all_reduce(self, tensor, op=None):
        raise RuntimeError(f"401 for {' and '.join(SECRETS)}")


class Dies(Raises):
    def all_reduce(self, tensor, op=None):
        print("dying with", *SECRETS, file=sys.stderr, flush=True)
        os._exit(9)
"""
SMALL = ("--device", "cpu", "--sizes", "1K", "--timing", "eager", "--rounds", "2", "--iters", "2")


HOST, UUID = "secret-host7", "1b2cdef2-d965-c8f6-af94-5832135dbfbe"


def plant_names(record: Path, named: Path) -> None:
    """Copy a record to ``named`` with another name of the host, a GPU and paths."""
    named.mkdir()
    for file in record.iterdir():
        text = re.sub(rf"\b{re.escape(platform.node())}\b", HOST, file.read_text())
        if file.name in ("run.json", "verification.json"):
            meta = json.loads(text)
            meta["environment"]["gpus"] = [{"index": 0, "name": "NVIDIA H200", "uuid": f"GPU-{UUID}"}]
            meta["environment"]["variables"] |= {
                "CUDA_VISIBLE_DEVICES": f"GPU-{UUID[:8]}",
                "NCCL_TOPO_FILE": "/my/topo",
            }
            meta["environment"]["nccl_conf"] = {"/my/.nccl.conf": {"NCCL_DEBUG": "WARN"}}
            text = json.dumps(meta)
        (named / file.name).write_text(text)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Run, verify, and then every command that reads a record. Keep what they print, by command."""
    sandbox = Sandbox(tmp_path_factory.mktemp("secrets"))
    (sandbox.cwd / "arms.py").write_text(LEAKY)
    environment = sandbox.environment(**ENVIRONMENT)
    printed: dict[tuple[str, ...], str] = {}

    def command(*arguments: str) -> int:
        ended = sandbox.nccl_bench(*arguments, env=environment)
        printed[arguments] = ended.stdout + ended.stderr
        return ended.code

    command("run", *SMALL, *OPTIONS, *ARMS, "--arms", "stream-free,torch", "--out", "run")
    command("verify", "--device", "cpu", "--probes", "producer", "--arm", RAISES, "--out", "verification")
    document = json.loads((ROOT / "tests/data/nccl-tests/all_reduce.json").read_text())
    document["env"] += [f"NCCL_SECRET_TOKEN={SECRET}-import", f"API_TOKEN={SECRET}-import"]
    (sandbox.cwd / "output.json").write_text(json.dumps(document))
    reading = [
        ("run", "--resume", "run"),
        ("verify", "--resume", "verification"),
        *(("report", "run", "--format", kind) for kind in Format),
        *(("report", "verification", "--format", kind) for kind in VERIFICATION_FORMATS),
        ("report", "run", "--full"),
        ("compare", "run", "--arms", "stream-free,torch", "--format", "json"),
        ("import", "output.json", "--out", "imported"),
        ("report", "imported", "--format", "json"),
        ("run", *SMALL, "--arm", f"x=arms.py:Raises,unknown=1,API_TOKEN={SECRET}-typed"),
        ("run", *SMALL, "--env", f"lower_token={SECRET}-typed"),
    ]
    for record in ("run", "verification"):
        plant_names(sandbox.cwd / record, sandbox.cwd / f"{record}-named")
    public = [
        *(("report", "run-named", "--format", kind) for kind in Format),
        ("report", "run-named", "--full"),
        *(("report", "verification-named", "--format", kind) for kind in VERIFICATION_FORMATS),
        ("report", "verification-named", "--full"),
        ("compare", "run-named", "--arms", "stream-free,torch", "--format", "json"),
        ("compare", "run-named", "imported/summary.csv", "--allow-mismatch"),
        ("doctor", "--format", "json"),
    ]
    reading += [(*arguments, "--anonymous") for arguments in public]
    ends = sandbox.in_turn(*reading, env=environment)
    printed |= {arguments: ended.stdout + ended.stderr for arguments, ended in zip(reading, ends, strict=True)}
    assert ends[0].code == ExitCode.USAGE
    assert "Traceback" not in "".join(printed.values())
    return SimpleNamespace(sandbox=sandbox, printed=printed, run=Run.load(sandbox.cwd / "run"))


def test_no_command_prints_a_secret(ran: SimpleNamespace) -> None:
    leaks = {
        arguments: [line for line in text.splitlines() if SECRET in line][:3]
        for arguments, text in ran.printed.items()
        if SECRET in text
    }
    assert leaks == {}


def test_no_written_file_holds_a_secret(ran: SimpleNamespace) -> None:
    files = [file for file in ran.sandbox.cwd.rglob("*") if file.is_file() and file.name != "output.json"]
    assert {"run.json", "samples.jsonl", "verification.json", "findings.jsonl"} <= {file.name for file in files}
    assert [file for file in files if SECRET.encode() in file.read_bytes()] == []
    ran.sandbox.assert_nothing_is_left()


def test_anonymous_reports_name_no_host_no_path_and_no_gpu(ran: SimpleNamespace) -> None:
    texts = {arguments: text for arguments, text in ran.printed.items() if "--anonymous" in arguments}
    named = re.compile(
        rf"{HOST}|arms\.py|/my/|{UUID[:8]}|{re.escape(str(ran.sandbox.cwd.parent))}|run-named|verification-named"
        r"|/site-packages|imported/"
    )
    secrets = {arguments: named.findall(text)[:3] for arguments, text in texts.items()}
    assert {arguments: names for arguments, names in secrets.items() if names} == {}
    assert all(len(text) > 300 for text in texts.values())
    assert not re.search(rf"\b{re.escape(platform.node())}\b", texts["doctor", "--format", "json", "--anonymous"])


def test_what_is_not_secret_stays(ran: SimpleNamespace) -> None:
    recorded = ran.run.meta["environment"]["variables"]
    assert (recorded["NCCL_SECRET_TOKEN"], recorded["NCCL_ALGO"]) == ("set", "Ring")
    assert ran.run.meta["config"]["variables"] == {"WANDB_API_KEY": "set", "NCCL_ALGO": "Ring"}
    messages = {line.arm: line.message for line in ran.run.lines if isinstance(line, Crash)}
    assert "401 for [value of" in messages["raises"]
    assert "dying with [value of" in messages["dies"]
    assert "[value of HF_TOKEN]" in messages["raises"]
