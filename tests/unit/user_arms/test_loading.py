"""Loading of a target by path, module or entry point, and the messages about one that cannot be loaded."""

from __future__ import annotations

import functools
import importlib
import json
import sys
from importlib import metadata
from pathlib import Path

import pytest

from nccl_bench.config.user_arms import GROUP
from nccl_bench.errors import SetupError
from nccl_bench.user_arms.loading import load_target, locate
from nccl_bench.user_arms.tracebacks import user_line
from tests.support.engine_trees import ENGINE, write

pytestmark = pytest.mark.usefixtures("process_is_unchanged")


def test_a_module_in_the_current_directory_comes_before_an_installed_one(
    installed: Path, trees: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(installed, ENGINE, "installed")
    monkeypatch.chdir(trees[0])
    assert set(load_target("engine.comm:Comm").value().late()) == {"before"}


SIBLINGS = {
    "mine.py": "import json, numpy_like, wire\nfrom numpy_like.part import NAME as PART\ndef make():\n"
    " import late_like, late_wire\n return numpy_like.NAME, PART, late_like.NAME, wire.NAME, late_wire.NAME",
    "wire.py": "import mine\nNAME = mine.__name__ and '{name}'",
    "late_wire.py": "NAME = '{name}'",
    "json.py": "raise AssertionError",
    "numpy_like/__init__.py": "NAME = '{name}'",
    "numpy_like/part.py": "NAME = '{name}'",
    "late_like.py": "NAME = '{name}'",
}


@pytest.mark.parametrize("on_path", [False, True])
def test_a_module_of_the_current_directory_imports_installed_modules_before_its_siblings(
    on_path: bool, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(installed, {name: text for name, text in SIBLINGS.items() if "like" in name}, "installed")
    directory = write(tmp_path / "here", SIBLINGS, "here")
    monkeypatch.chdir(directory)
    if on_path:
        # PYTHONPATH can name the current directory too; a module found in both ways is loaded once.
        monkeypatch.setattr(sys, "path", [*sys.path, str(directory)])
    assert load_target("mine:make").value() == (*["installed"] * 3, *["here"] * 2)
    # Whoever names the file or the tree wants the modules beside it.
    assert set(load_target("mine.py:make").value()) == {"here"}
    assert set(load_target("mine:make", ".").value()) == {"here"}


def test_an_installed_module_does_not_see_the_current_directory(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(installed, {"installed_one.py": "try: import wire\nexcept ImportError: wire = None\ndef make(): return wire"})
    monkeypatch.chdir(
        write(tmp_path / "here", {"wire.py": "", "mine.py": "import wire\nfrom installed_one import make"})
    )
    assert load_target("mine:make").value() is None
    assert load_target("installed_one:make").value() is None


def test_a_directory_without_init_in_the_current_directory_yields_even_to_a_target(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(installed, ENGINE, "installed")
    monkeypatch.chdir(write(tmp_path / "here", {"engine/log.py": "", "space/comm.py": "def make(): return 'here'"}))
    assert set(load_target("engine.comm:Comm").value().late()) == {"installed"}
    assert load_target("space.comm:make").value() == "here"


def test_an_installed_module_is_imported_as_usual(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(installed, ENGINE, "installed")
    monkeypatch.chdir(installed.parent)
    loaded = load_target("engine.comm:Comm")
    assert loaded.value is importlib.import_module("engine.comm").Comm
    assert loaded.roots == (installed / "engine",)
    assert load_target("json:dumps").value is json.dumps


def test_an_entry_point_names_a_target(
    installed: Path, trees: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(installed, ENGINE, "installed")
    points = metadata.EntryPoints([metadata.EntryPoint("mine", "engine.comm:Comm", GROUP)])
    # An entry point belongs to an installed package, whatever the current directory holds.
    monkeypatch.chdir(trees[0])
    monkeypatch.setattr(metadata, "entry_points", lambda group: points if group == GROUP else ())
    assert set(load_target("mine").value().late()) == {"installed"}
    assert set(load_target("mine", trees[1]).value().late()) == {"after"}
    with pytest.raises(SetupError, match=r"entry point 'other' is unknown \(known: mine\): give path/to/file.py"):
        load_target("other")


def test_an_entry_point_of_two_packages_or_of_a_module_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [("mine", "a:b"), ("mine", "c:d"), ("whole", "json")]
    points = [metadata.EntryPoint(name, value, GROUP) for name, value in values]
    monkeypatch.setattr(metadata, "entry_points", lambda group: points)
    with pytest.raises(SetupError, match=r"'mine' is given by 2 packages \(a:b, c:d\)"):
        load_target("mine")
    with pytest.raises(SetupError, match=r"'whole \(json:\)' is no target"):
        load_target("whole")


@pytest.mark.parametrize(
    ("name", "line"),
    [("Comm", 3), ("make", 6), ("decorated", 9), ("Comm.method", 4), ("obj", 3), ("part", 6), ("made", None)],
)
def test_where_is_the_line_of_the_definition(name: str, line: int | None, tmp_path: Path) -> None:
    text = """import functools

class Comm:
    def method(self): pass
    def __call__(self): pass
def make(): pass
def wrap(function):
    return functools.wraps(function)(lambda: None)
@wrap
def decorated(): pass
obj = Comm()
part = functools.partial(make)
made = type("made", (), {})
"""
    file = write(tmp_path, {"comm.py": text}) / "comm.py"
    assert load_target(f"{file}:{name}").where == (f"{file}:{line}" if line else str(file))


def test_where_is_the_target_if_nothing_else_is_known() -> None:
    assert load_target("sys:intern").where == "sys:intern"


@pytest.mark.parametrize(
    "target", ["", ":", ":x", "comm.py:", "comm.py", "a/b", "a.b:", "a b:c", "a:b c", "a:b..c", "a..b:c", ".a:b"]
)
def test_a_malformed_target_is_refused_with_the_allowed_forms(target: str) -> None:
    with pytest.raises(SetupError, match=r"path/to/file\.py:NAME, package\.module:NAME, or an entry point"):
        load_target(target)


BROKEN = {
    "engine/__init__.py": "",
    "engine/good.py": "import os\nclass PyNcclCommunicator: pass\nnumber = 5\n",
    "engine/raises.py": "x = 1\nfrom .inner import y\n",
    "engine/inner.py": "def fail():\n    raise ValueError('no\\nway')\nfail()\n",
    "engine/exits.py": "import sys\nsys.exit(3)\n",
    "engine/imports.py": "\nimport nosuch_module.part\n",
    "engine/submodule.py": "from . import nosuch\n",
    "engine/lacks.py": "import engine.nosuch\n",
    "engine/syntax.py": "x = 1\ndef (:\n",
    "engine/deep.py": "import json\njson.loads('{')\n",
    "engine/lazy.py": "def __getattr__(name):\n    raise RuntimeError('lazy')\n",
    "lonely.py": "from .engine import good\n",
}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "engine.good:PyNcclComunicator",
            "there is no 'PyNcclComunicator' in {tree}/engine/good.py; there is PyNcclCommunicator",
        ),
        ("engine.good:zzz", "there is no 'zzz' in {tree}/engine/good.py; there is PyNcclCommunicator, number, os"),
        ("engine.good:PyNcclCommunicator.x", "there is no 'x'; there is "),
        ("engine.good:number", "is a int: name a class, a function"),
        ("engine.raises:x", "importing engine.raises raised ValueError at {tree}/engine/inner.py:2: no"),
        ("engine/raises.py:x", "importing engine.raises raised ValueError at {tree}/engine/inner.py:2: no"),
        ("engine.exits:x", "importing engine.exits raised SystemExit at {tree}/engine/exits.py:2: 3"),
        ("engine.imports:x", "there is no module nosuch_module, which {tree}/engine/imports.py:2 imports"),
        ("engine.submodule:x", "ImportError at {tree}/engine/submodule.py:1: cannot import name 'nosuch'"),
        ("engine.lacks:x", "there is no module engine.nosuch, which {tree}/engine/lacks.py:1 imports"),
        ("engine.syntax:x", "SyntaxError at {tree}/engine/syntax.py:2: "),
        ("engine.deep:x", "JSONDecodeError at {tree}/engine/deep.py:2: "),
        ("engine.lazy:x", "RuntimeError at {tree}/engine/lazy.py:2: lazy"),
        ("lonely:x", "ImportError at {tree}/lonely.py:1: attempted relative import"),
        ("engine.nosuch:x", "there is no module engine.nosuch in {tree}"),
        ("nosuch.module:x", "there is no module nosuch.module in {tree}"),
        ("torch.nosuch:x", "there is no module torch.nosuch in {tree}"),
        ("nosuch.py:x", "there is no Python file nosuch.py in the tree {tree}"),
        ("engine/:x", "there is no Python file engine/ in the tree {tree}"),
        ("../outside.py:x", "there is no Python file ../outside.py in the tree {tree}"),
    ],
)
def test_each_error_is_one_line_that_names_the_target_and_the_users_line(
    target: str, message: str, tmp_path: Path
) -> None:
    tree = write(tmp_path / "tree", BROKEN)
    write(tmp_path, {"outside.py": "x = print"})
    with pytest.raises(SetupError) as failed:
        load_target(target, str(tree))
    text = str(failed.value)
    assert text.startswith(target)
    assert message.format(tree=tree) in text
    assert "\n" not in text


def test_a_file_outside_the_trees_makes_a_communicator_of_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has the name of a module of the trees, and a neighbour that is none of theirs."""
    for tree in ("old", "new"):
        write(tmp_path / tree, {"engine/__init__.py": f"version = {tree!r}\n", "factory.py": "mine = 'the engine'\n"})
    write(
        tmp_path,
        {
            "mine/factory.py": "import engine\nfrom factory import mine\ndef make(): return engine.version, mine\n",
            "mine/helper.py": "",
            "mine/lost.py": "import helper\n",
        },
    )
    monkeypatch.chdir(tmp_path)
    loaded = [load_target("mine/factory.py:make", tree) for tree in ("old", "new")]
    assert [target.value() for target in loaded] == [("old", "the engine"), ("new", "the engine")]
    assert [target.where for target in loaded] == [
        f"mine/factory.py:3 with the modules of {tree}" for tree in ("old", "new")
    ]
    with pytest.raises(SetupError, match=r"there is no module helper, which mine/lost.py:1 imports"):
        load_target("mine/lost.py:x", "old")


def test_locate_refuses_a_missing_target_and_imports_nothing(tmp_path: Path) -> None:
    tree = write(tmp_path / "tree", BROKEN)
    before = set(sys.modules)
    for target in ("engine.raises:x", "engine/exits.py:x", "engine.good:zzz"):
        assert locate(target, str(tree)).roots == (tree,)
    for missing in ("nosuch.module:x", "nosuch.py:x", "engine.good", "nosuch"):
        with pytest.raises(SetupError):
            locate(missing, str(tree))
    assert set(sys.modules) == before


def test_a_tree_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    for missing in (tmp_path / "nosuch", write(tmp_path, {"file": ""}) / "file"):
        with pytest.raises(SetupError, match=rf"^a.b:c: the tree {missing} is no directory"):
            load_target("a.b:c", str(missing))


def test_a_target_that_is_neither_in_the_current_directory_nor_installed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SetupError, match=rf"^nosuch_module:x: there is no module nosuch_module in {tmp_path} or among"):
        load_target("nosuch_module:x")
    with pytest.raises(SetupError, match=rf"^nosuch.py:x: there is no Python file nosuch.py in {tmp_path}: give"):
        load_target("nosuch.py:x")


def test_the_message_names_the_tree_that_holds_the_package(tmp_path: Path) -> None:
    # The first tree is one directory too high. The second is too low, because a package lacks its __init__.py.
    files = {"engine/__init__.py": "", "engine/part/comm.py": "from engine.part import wire"}
    write(tmp_path / "repository/python", files)
    advice = rf"; {tmp_path}/repository/python holds engine: give {tmp_path}/repository/python as the tree$"
    with pytest.raises(SetupError, match=advice):
        load_target("engine.part.comm:x", str(tmp_path / "repository"))
    with pytest.raises(SetupError, match=advice):
        load_target(f"{tmp_path}/repository/python/engine/part/comm.py:x")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("engine:C", "module 'helper' has no attribute 'wanted'. {tree}/helper.py hides the installed module helper"),
        ("deep:C", "there is no module helper.part, which {tree}/deep.py:1 imports. {tree}/helper.py hides the"),
        ("helper:C", "no 'C' in {tree}/helper.py; there is other. {tree}/helper.py hides the installed module helper"),
        # The hidden module has nothing to do with the error.
        ("apart:C", "importing apart raised ValueError at {tree}/apart.py:2: broken"),
    ],
)
def test_a_failed_import_names_the_file_that_hides_an_installed_module(
    target: str, message: str, installed: Path, tmp_path: Path
) -> None:
    write(installed, {"helper/__init__.py": "wanted = 1", "helper/part.py": ""})
    modules = {
        "helper.py": "other = 1",
        "engine.py": "import helper\nhelper.wanted",
        "deep.py": "import helper.part",
        "apart.py": "import helper\nraise ValueError('broken')",
    }
    tree = write(tmp_path / "tree", modules)
    with pytest.raises(SetupError) as failed:
        load_target(target, str(tree))
    assert message.format(tree=tree) in str(failed.value)
    assert ("hides" in str(failed.value)) == ("hides" in message)


def test_an_interrupt_during_an_import_is_not_caught(tmp_path: Path) -> None:
    write(tmp_path, {"comm.py": "raise KeyboardInterrupt"})
    with pytest.raises(KeyboardInterrupt):
        load_target("comm:x", str(tmp_path))


def test_user_line_is_the_innermost_frame_of_the_users_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import json\ndef late():\n    from . import nosuch\ndef call(function):\n    function()\n"
    file = write(tmp_path / "tree", {"engine/comm.py": text + "def parse():\n    json.loads('{')\n"}) / "engine/comm.py"
    write(tmp_path / "tree", {".venv/lib/site-packages/other.py": ""})
    loaded = load_target("engine/comm.py:call", str(tmp_path / "tree"))
    parse, late = (load_target(f"engine/comm.py:{name}", str(tmp_path / "tree")).value for name in ("parse", "late"))

    def in_virtual_environment() -> None:
        # This is code of a virtual environment inside the tree.
        exec(compile("1 / 0", str(tmp_path / "tree/.venv/lib/site-packages/other.py"), "exec"), {})

    for function, line in ((parse, 7), (late, 3), (in_virtual_environment, 5)):
        with pytest.raises((ValueError, ImportError, ZeroDivisionError)) as failed:
            loaded.value(function)
        assert user_line(failed.value, loaded.roots) == f"{file}:{line}"
    with pytest.raises(ValueError, match="Expecting") as failed:
        functools.partial(json.loads, "{")()
    line = failed.traceback[0].lineno + 1
    monkeypatch.chdir("/")
    assert user_line(failed.value, loaded.roots) == f"{__file__[1:]}:{line}"
    monkeypatch.chdir(tmp_path)
    assert user_line(failed.value, loaded.roots) == f"{__file__}:{line}"
    assert user_line(ValueError(), loaded.roots) is None
