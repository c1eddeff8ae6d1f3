"""Each public field of a dataclass and each option of a command is documented."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from nccl_bench.cli import app

PACKAGE = Path(__file__).parents[2] / "nccl_bench"
MODULES = sorted(PACKAGE.rglob("*.py"))
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # of a group


def undocumented(source: str) -> Iterator[str]:
    """Yield CLASS.FIELD for each public field of a public dataclass without documentation.

    A field is documented by a comment on its line or above it, or by a help text in its value.
    """
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token.line.lstrip() for token in tokens if token.type == tokenize.COMMENT}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(each) for each in node.decorator_list):
            for field in node.body:
                if not isinstance(field, ast.AnnAssign) or "ClassVar" in ast.unparse(field.annotation):
                    continue
                name = f"{node.name}.{ast.unparse(field.target)}"
                lines = range(field.lineno, (field.end_lineno or field.lineno) + 1)
                commented = comments.keys() & lines or comments.get(field.lineno - 1, "").startswith("#")
                if not (commented or has_help(field.value) or name.startswith("_") or "._" in name):
                    yield name


def has_help(value: ast.expr | None) -> bool:
    """Return whether a field's value is an option, or another call with a help text."""
    if not isinstance(value, ast.Call):
        return False
    return ast.unparse(value.func).endswith("option") or any(keyword.arg == "help" for keyword in value.keywords)


def test_every_public_dataclass_field_has_a_comment() -> None:
    fields = [
        f"{module.relative_to(PACKAGE)}: {field}"
        for module in MODULES
        # Most modules have none, and need not be parsed.
        if "dataclass" in (source := module.read_text(encoding="utf-8"))
        for field in undocumented(source)
    ]
    assert fields == []


def test_a_field_without_a_comment_is_detected() -> None:
    source = "@dataclass\nclass A:\n    a: int  # a\n    # b\n    b: int\n    c: int = 1\n    d: int = option('D')\n"
    assert list(undocumented(source)) == ["A.c"]
    assert list(undocumented(source.replace("class A", "class _A"))) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_every_command_has_a_help_text(command: str) -> None:
    assert [each.name for each in COMMANDS[command].params if not (each.help or "").strip()] == []
