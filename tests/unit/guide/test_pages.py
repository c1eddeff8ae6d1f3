"""The README and the guide say what the code does: its tables, its commands, its figures."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from nccl_bench.analysis.statistics import Verdict
from nccl_bench.audit.order.races import Missing, RaceKind
from nccl_bench.catalog.probes import PROBES
from nccl_bench.catalog.timings import Timing
from nccl_bench.cli import app
from nccl_bench.cli.guide import EXAMPLES, TOPICS, page
from nccl_bench.config.user_arms import ORDERS, Adapter
from nccl_bench.config.verification import resolve_verification
from nccl_bench.doctor.examination import SUBJECTS
from nccl_bench.errors import ExitCode
from nccl_bench.report.verification import TerminalVerification
from nccl_bench.traces.readers import READERS
from nccl_bench.verify.findings import Finding
from nccl_bench.verify.judgement import judge
from tests.support import guide_pages

ROOT = Path(__file__).parents[3]
GUIDE = ROOT / "nccl_bench" / "guide"
TEXTS = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in (
        "README.md",
        "CHANGELOG.md",
        ".github/CONTRIBUTING.md",
        "results/README.md",
        *(f"nccl_bench/guide/{path.name}" for path in sorted(GUIDE.glob("*.md"))),
    )
}
README = TEXTS["README.md"]
# Lines of code blocks, and code within a sentence or a table.
_CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^`?(?:srun )?nccl-bench ([a-z]+)((?: [^>`\n]*)?)", re.MULTILINE)
COMMANDS = sorted(
    {
        (name, arguments.strip())
        for text in TEXTS.values()
        for code in _CODE.findall(text)
        for name, arguments in _COMMAND.findall(code)
        if arguments.strip()
    }
)


def rows_below(topic: str, heading: str) -> list[str]:
    """Return the first cells of the table in a page whose header begins with ``heading``."""
    table = page(topic).split(f"| {heading} |", 1)[1].split("\n\n", 1)[0]
    return re.findall(r"^\| `([^`]+)`[^|]* \|", table, re.MULTILINE)


def block_with(text: str, start: str) -> list[str]:
    """Return the lines of the code block in ``text`` that begins with ``start``."""
    return text.split(f"```\n{start}", 1)[1].split("```", 1)[0].splitlines()[1:]


def test_each_topic_is_a_page_and_each_page_a_topic() -> None:
    assert {EXAMPLES.get(topic, f"{topic}.md") for topic in TOPICS} == {path.name for path in GUIDE.glob("*.*")}


def test_the_generated_pages_are_those_of_the_code() -> None:
    for topic, text in guide_pages.GENERATED.items():
        assert page(topic) == text(), "run `python -m tests.support.guide_pages`"


def test_the_reference_has_every_exit_code() -> None:
    assert set(guide_pages.EXIT_CODES) == set(ExitCode)


def test_the_verdicts_page_explains_every_verdict() -> None:
    assert rows_below("verdicts", "verdict") == list(Verdict)


def test_the_tutorial_explains_every_timing() -> None:
    assert rows_below("tutorial", "timing") == list(Timing)


def test_the_stream_order_page_explains_every_probe() -> None:
    assert rows_below("stream-order", "probe") == list(PROBES)


def test_the_audit_rules_explain_every_kind_of_race_and_every_missing_order() -> None:
    assert rows_below("audit-rules", "kind") == list(RaceKind)
    assert rows_below("audit-rules", "missing") == list(Missing)


def test_the_doctor_page_explains_every_subject() -> None:
    assert rows_below("doctor", "subject") == list(SUBJECTS)


def test_the_traces_page_explains_every_format() -> None:
    assert rows_below("traces", "file") == list(READERS)


def test_the_table_of_the_traces_page_is_that_of_a_real_recording() -> None:
    names = re.findall(r"[\w.-]+\.gz", page("traces").split("```")[1])
    files = [str(ROOT / "tests" / "data" / "traces" / name) for name in names]
    shown = CliRunner().invoke(app, ["trace", *files, "--width", "100"]).stdout
    assert f"```\n{shown}```" in page("traces")


def test_the_user_arms_page_explains_every_adapter_and_order() -> None:
    assert set(rows_below("user-arms", "adapter")) == set(Adapter)
    assert rows_below("user-arms", "order") == list(ORDERS)


def test_the_user_arms_page_shows_the_example_which_has_at_most_twenty_lines() -> None:
    assert f"```python\n{page('example')}```" in page("user-arms")
    assert len(page("example").splitlines()) <= 20


def test_the_engines_page_shows_the_factory_of_the_coordinator() -> None:
    factory = page("sglang-coordinator").split("\n\n\n")[1]
    assert f"```python\n{factory}\n```" in page("engines")


def test_the_gate_page_shows_the_limits_preset() -> None:
    limits = (ROOT / "configs" / "limits.toml").read_text(encoding="utf-8")
    assert f"```toml\n{limits}```" in page("gate")


def test_the_architecture_page_has_the_layers_of_the_contract_and_every_folder() -> None:
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ][0]
    # In parentheses stand layers that are yet to come.
    layers = [re.sub(r"\(\w+\)( \| )?", "", layer) for layer in contract["layers"]]
    assert "```\n" + "\n".join(filter(None, layers)) + "\n```" in page("architecture")
    folders = {f"{path.parent.name}/" for path in (ROOT / "nccl_bench").glob("*/__init__.py")}
    assert folders | {"errors.py", "guide/"} == set(rows_below("architecture", "folder"))


def test_the_readme_is_short_and_has_the_commands_that_ci_runs() -> None:
    assert len(README.splitlines()) <= 180
    for heading in ("First run", "Tests"):
        assert re.search(rf"^## {heading}$(?:(?!^## ).*\n)*?^python3 ", README, re.MULTILINE), heading


def test_the_figures_of_the_readme_are_those_of_the_reference_run() -> None:
    report = CliRunner().invoke(app, ["report", str(ROOT / "results" / "h200-x2-all-reduce"), "--width", "80"])
    block = block_with(README, "  FASTEST eager")
    assert set(block) <= set(report.stdout.splitlines())


def test_the_table_of_the_stream_order_page_is_that_of_the_reference_run() -> None:
    record = json.loads((ROOT / "results" / "h200-x2-verify" / "verification.json").read_text(encoding="utf-8"))
    findings = [
        Finding(detail=None, **{name: cell[name] for name in ("arm", "probe", "trials", "failed", "raced")})
        for cell in record["cells"]
        if "trials" in cell
    ]
    verification = judge(resolve_verification("cuda", record["config"]), record["world_size"], findings)
    shown = TerminalVerification(width=80, styled=False).render(verification)
    assert set(block_with(page("stream-order"), "arm  ")) <= set(shown.splitlines())


def test_the_table_of_reference_runs_names_at_most_eight_that_exist() -> None:
    runs = re.findall(r"^\| `([\w-]+)` \|", TEXTS["results/README.md"], re.MULTILINE)
    assert len(runs) <= 8
    assert all((ROOT / "results" / run).is_dir() for run in runs)


@pytest.mark.parametrize("name", TEXTS)
def test_every_link_leads_to_a_file(name: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", TEXTS[name])
    missing = [link for link in links if "://" not in link and not ((ROOT / name).parent / link).exists()]
    assert not missing


def test_contributing_names_modules_that_exist() -> None:
    changes = (
        TEXTS[".github/CONTRIBUTING.md"].split("## Where a change goes", 1)[1].split("\n## ", 1)[0].split("### ")[1:]
    )
    assert len(changes) == 14
    for change in changes:
        modules = {path for path in re.findall(r"`([\w/]+/(?:\w+\.py)?)`", change) if "NAME" not in path}
        missing = [path for path in modules if not any((ROOT / top / path).exists() for top in ("nccl_bench", "."))]
        assert not missing, change


@pytest.mark.parametrize(("name", "arguments"), COMMANDS)
def test_the_commands_of_the_pages_parse(name: str, arguments: str) -> None:
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    command.make_context(name, shlex.split(arguments, comments=True))


def test_there_are_commands_of_every_kind_to_parse() -> None:
    names = {name for name, _ in COMMANDS}
    assert names == {"audit", "run", "report", "list", "verify", "import", "compare", "guide", "doctor", "trace"}
