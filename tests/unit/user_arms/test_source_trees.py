"""Loading from source trees; each tree sees only its own modules."""

from __future__ import annotations

import importlib
import json
import sys
import threading
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

import pytest

from nccl_bench.errors import SetupError
from nccl_bench.user_arms.loading import load_target
from tests.support.engine_trees import ENGINE, write

pytestmark = pytest.mark.usefixtures("process_is_unchanged")
TARGETS = ("engine.comm:Comm", "engine/comm.py:Comm")


class Editable(MetaPathFinder):
    """A finder of the package ``engine``'s modules in a directory anywhere, as an editable install has it."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def find_spec(self, name: str, path: object, target: ModuleType | None = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [self.directory]) if name.startswith("engine.") else None


@pytest.mark.parametrize("target", TARGETS)
def test_two_trees_with_the_same_names_each_see_their_own_modules(target: str, trees: tuple[str, str]) -> None:
    before, after = (load_target(target, tree).value() for tree in trees)
    for _ in range(2):
        assert set(before.early()) == {"before"}
        assert set(after.early()) == {"after"}
    # The first time, these calls import modules that are not loaded yet.
    for _ in range(2):
        assert set(before.late()) == {"before"}
        assert set(after.late()) == {"after"}


def test_the_tree_of_a_file_is_the_directory_above_its_package(trees: tuple[str, str]) -> None:
    before, after = (load_target(f"{tree}/engine/comm.py:Comm").value() for tree in trees)
    assert set(after.late() + after.early()) == {"after"}
    assert set(before.late() + before.early()) == {"before"}


def test_a_file_outside_any_package_imports_its_siblings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        files = {"comm.py": "import wire\ndef make():\n import late_wire\n return wire.NAME + late_wire.NAME"}
        write(tmp_path / name, files | {"wire.py": "NAME = '{name}'", "late_wire.py": "NAME = '{name}'"}, name)
    monkeypatch.chdir(tmp_path / "b")
    assert load_target("comm.py:make").value() == "bb"
    assert load_target("../a/comm.py:make").value() == "aa"


@pytest.mark.parametrize("stem", ["queue", "torch", "nccl_bench", "my-comm", "comm.v2", "__main__"])
def test_a_file_of_any_name_loads_and_hides_nothing(stem: str, tmp_path: Path) -> None:
    write(tmp_path, {f"{stem}.py": "import queue, torch\ndef make(): return queue.Queue, torch.Tensor"})
    import queue

    import torch

    assert load_target(f"{tmp_path}/{stem}.py:make").value() == (queue.Queue, torch.Tensor)


def test_a_target_that_is_the_package_itself_sees_its_modules(trees: tuple[str, str]) -> None:
    write(Path(trees[0]), {"engine/__init__.py": "from .comm import Comm"})
    assert load_target("engine/__init__.py:Comm", trees[0]).value().early()[0] == "before"
    assert load_target("engine:comm.Comm.early", trees[0]).value(None)[0] == "before"


def test_nested_packages_and_directories_without_init_are_packages(tmp_path: Path) -> None:
    files = {
        "space/inner/deep.py": "from ..other import NAME\nimport space.other as o\ndef make(): return NAME, o.NAME",
        "space/other.py": "NAME = '{name}'",
        "engine/__init__.py": "",
        "engine/a/__init__.py": "from .b.c import make",
        "engine/a/b/c.py": "from ...name import NAME\nfrom space.other import NAME as S\ndef make(): return NAME, S",
        "engine/name.py": "NAME = '{name}'",
    }
    first, second = (str(write(tmp_path / name, files, name)) for name in ("one", "two"))
    for target in ("space.inner.deep:make", "engine.a:make", "space/inner/deep.py:make", "engine/a/b/c.py:make"):
        assert load_target(target, first).value() == ("one", "one")
        assert load_target(target, second).value() == ("two", "two")


def test_modules_that_import_each_other_load(tmp_path: Path) -> None:
    files = {
        "ring/__init__.py": "from . import left",
        "ring/left.py": "from . import right\nNAME = '{name}'\ndef make(): return right.NAME, right.left.NAME",
        "ring/right.py": "from . import left\nimport ring.left\nNAME = '{name}'",
    }
    first, second = (str(write(tmp_path / name, files, name)) for name in ("one", "two"))
    assert load_target("ring.left:make", first).value() == ("one", "one")
    assert load_target("ring.left:make", second).value() == ("two", "two")


def test_state_is_shared_within_a_tree_and_not_between_trees(tmp_path: Path) -> None:
    files = {
        "engine/state.py": "calls = []",
        "engine/one.py": "from . import state\ndef add(): state.calls.append(1); return len(state.calls)",
        "engine/two.py": "def add():\n import engine.state\n engine.state.calls.append(1)\n"
        " return len(engine.state.calls)",
    }
    first, second = (str(write(tmp_path / name, files)) for name in ("first", "second"))
    linked = tmp_path / "linked"
    linked.symlink_to(first)
    assert load_target("engine.one:add", first).value() == 1
    assert load_target("engine.one:add", second).value() == 1
    assert load_target("engine.two:add", first + "/").value() == 2
    assert load_target("engine/one.py:add", str(linked)).value() == 3
    assert load_target("engine.two:add", second).value() == 2


def test_import_module_goes_to_the_tree_early_and_late(tmp_path: Path) -> None:
    files = {
        "engine/__init__.py": "import importlib\ndef __getattr__(name):\n"
        " if name != 'lazy': raise AttributeError(name)\n"
        " return importlib.import_module('.lazy', __name__)",
        "engine/lazy.py": "NAME = '{name}'",
        "engine/comm.py": """
import importlib.util
from importlib import import_module
early = importlib.import_module("engine.lazy")
def make():
    import engine, json
    assert import_module("json") is json and importlib.util.find_spec("json")
    return early.NAME, import_module("engine.late").NAME, engine.lazy.NAME, import_module(".lazy", "engine").NAME
""",
        "engine/late.py": "NAME = '{name}'",
    }
    first, second = (
        load_target("engine.comm:make", str(write(tmp_path / name, files, name))).value for name in ("one", "two")
    )
    assert set(first()) == {"one"}
    assert set(second()) == {"two"}


def test_modules_of_the_process_with_a_trees_names_stay_and_are_invisible_to_the_tree(
    trees: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = ModuleType("engine")
    monkeypatch.setitem(sys.modules, "engine", mine)
    monkeypatch.setitem(sys.modules, "engine.name", mine)
    comm = load_target("engine.comm:Comm", trees[0]).value()
    assert set(comm.early()) == {"before"}
    assert sys.modules["engine"] is mine
    assert set(comm.late()) == {"before"}
    assert sys.modules["engine"] is sys.modules["engine.name"] is mine
    assert vars(mine).keys() == vars(ModuleType("engine")).keys()


def test_a_tree_takes_precedence_over_an_installed_package_even_for_a_missing_module(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Editable(str(installed / "engine"))])
    write(installed, ENGINE | {"engine/extra.py": "", "space/__init__.py": "def make(): return 'installed'"}, "wrong")
    files = {
        "engine/more.py": "from .comm import Comm\ntry: from engine import extra\nexcept ImportError: extra = None",
        "space/comm.py": "def make(): return 'tree'",
    }
    tree = str(write(tmp_path / "tree", ENGINE | files, "tree"))
    assert set(load_target("engine.more:Comm", tree).value().late()) == {"tree"}
    assert load_target("engine.more:extra.__class__", tree).value is type(None)
    # A target names this directory, so it does not yield although it has no __init__.py.
    assert load_target("space.comm:make", tree).value() == "tree"
    assert importlib.import_module("engine.name").NAME == "wrong"


def test_a_directory_without_init_that_no_target_names_yields_to_an_installed_package(
    installed: Path, tmp_path: Path
) -> None:
    write(installed, {"runs/__init__.py": "NAME = 'installed'"})
    write(tmp_path / "tree", {"runs/1/log.py": "", "comm.py": "import runs\ndef make(): return runs.NAME"})
    assert load_target("comm:make", str(tmp_path / "tree")).value() == "installed"


def test_a_directory_without_init_stays_the_trees_when_the_path_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "space/comm.py": "def make():\n from space import late\n return late.NAME",
        "space/late.py": "NAME = '{name}'",
    }
    make = load_target("space.comm:make", str(write(tmp_path / "tree", files, "tree"))).value
    monkeypatch.syspath_prepend(str(write(tmp_path / "path", files, "path")))
    assert make() == "tree"


def test_a_tree_cannot_shadow_torch_and_the_standard_library(tmp_path: Path) -> None:
    shadows = {f"{name}/__init__.py": "raise AssertionError" for name in ("torch", "json", "nccl_bench", "__main__")}
    text = "import json, torch, __main__, nccl_bench.errors\ndef make():\n import torch as t\n"
    text += " return json, t, __main__, nccl_bench.errors"
    write(tmp_path, shadows | {"comm.py": text})
    import torch

    import nccl_bench.errors

    assert load_target("comm:make", str(tmp_path)).value() == (json, torch, sys.modules["__main__"], nccl_bench.errors)


def test_an_installed_module_imported_from_a_tree_does_not_see_the_tree(installed: Path, tmp_path: Path) -> None:
    seen = "try: import engine\nexcept ImportError: SEEN = None\nelse: SEEN = engine.__file__"
    write(installed, {"installed_one.py": seen})
    for name in ("before", "after"):
        files = ENGINE | {"engine/uses.py": "from .comm import Comm\nimport installed_one\nfrom .late import NAME"}
        tree = str(write(tmp_path / name, files, name))
        assert set(load_target("engine.uses:Comm", tree).value().late()) == {name}
    assert sys.modules["installed_one"].SEEN is None


def test_threads_import_late_from_their_own_trees(tmp_path: Path) -> None:
    files = {f"engine/late_{index}.py": "NAME = '{name}'" for index in range(20)}
    text = "def make(index):\n from importlib import import_module\n return import_module(f'engine.late_{index}').NAME"
    names = [str(index) for index in range(4)]
    loaded = [
        load_target("engine.comm:make", str(write(tmp_path / name, files | {"engine/comm.py": text}, name)))
        for name in names
    ]
    results: list[set[str]] = [set() for _ in names]
    start = threading.Barrier(2 * len(names))

    def work(index: int) -> None:
        start.wait()
        results[index].update(loaded[index].value(late) for late in range(20))

    threads = [threading.Thread(target=work, args=(index,)) for index in 2 * [*range(len(names))]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [{name} for name in names]


def test_a_loaded_module_is_imported_while_another_tree_is_still_loading(
    trees: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = ModuleType("gate")
    vars(gate).update(reached=threading.Event(), passed=threading.Event())
    monkeypatch.setitem(sys.modules, "gate", gate)
    slow = {"slow.py": "import gate\ngate.reached.set()\ndone = gate.passed.wait(10)\ndef make(): return done"}
    slow_tree = str(write(tmp_path / "slow", slow))
    comm = load_target("engine.comm:Comm", trees[0]).value()
    comm.late()
    loaded = []
    thread = threading.Thread(target=lambda: loaded.append(load_target("slow:make", slow_tree)))
    thread.start()
    assert gate.reached.wait(10)
    assert set(comm.late()) == {"before"}
    gate.passed.set()
    thread.join()
    assert loaded[0].value()


def test_a_failed_import_can_be_repeated_and_succeeds_after_a_repair(tmp_path: Path) -> None:
    files = {"engine/comm.py": "from . import late\ndef make(): return late.NAME", "engine/late.py": "1 / 0"}
    tree = write(tmp_path / "tree", files)
    for _ in range(2):
        with pytest.raises(SetupError, match="ZeroDivisionError"):
            load_target("engine.comm:make", str(tree))
    write(tree, {"engine/late.py": "NAME = 'mended'"})
    assert load_target("engine.comm:make", str(tree)).value() == "mended"
