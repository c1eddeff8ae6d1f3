"""No module of the package unpickles anything: a pickle from outside can run any code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "nccl_bench"
MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "multiprocessing"}
# torch.load unpickles, and so do the collectives of torch.distributed for objects.
CALLS = {"read_pickle", "to_pickle", "broadcast_object_list", "scatter_object_list", "recv_object_list"}
CALLS |= {"send_object_list", "all_gather_object", "gather_object"}
TORCH_CALLS = {"load", "save"}


def uses_of_pickle(source: str) -> list[str]:
    """Return the imports and the calls in ``source`` that unpickle or pickle."""
    uses = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            uses += [each.name for each in node.names if each.name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            # multiprocessing belongs to torch's launcher, too.
            parts = {*(node.module or "").split("."), *(each.name for each in node.names)}
            uses += [f"from {node.module}"] if parts & CALLS or (node.module or "").split(".")[0] in MODULES else []
            uses += [f"from {node.module}"] if node.module == "torch" and parts & TORCH_CALLS else []
        elif isinstance(node, ast.Attribute):
            of_torch = isinstance(node.value, ast.Name) and node.value.id == "torch" and node.attr in TORCH_CALLS
            uses += [node.attr] if node.attr in CALLS or of_torch else []
    return uses


def test_the_package_never_pickles() -> None:
    modules = sorted(PACKAGE.rglob("*.py"))
    assert len(modules) > 100
    uses = {str(path): uses_of_pickle(path.read_text(encoding="utf-8")) for path in modules}
    assert {path: calls for path, calls in uses.items() if calls} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import multiprocessing.connection",
        "import torch\ntorch.load(path)",
        "from torch import load",
        "from torch.distributed import broadcast_object_list",
        "def f():\n    dist.all_gather_object(values, value)",
    ],
)
def test_a_planted_pickle_is_found(source: str) -> None:
    assert uses_of_pickle(source)
