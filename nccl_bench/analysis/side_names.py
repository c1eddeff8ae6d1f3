"""The two sides of a comparison, and the recorded differences between them."""

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from nccl_bench.analysis.description import recorded_user_arms
from nccl_bench.analysis.machine import NamedRuns, versions
from nccl_bench.analysis.wording import joined
from nccl_bench.config.user_arms import AFTER, BEFORE
from nccl_bench.records.run import Run


def named_sides(run: Run) -> Mapping[str, str]:
    """Return the tree, target or order of the arms ``before`` and ``after`` of ``run``, as far as these differ.

    Empty if the run does not have both arms, or if none of these differs.
    """
    arms = {str(arm.get("name")): arm for arm in run.meta["config"].get("user_arms") or ()}
    if not {BEFORE, AFTER} <= arms.keys():
        return {}
    orders = {str(arm.get("arm")): arm.get("order") for arm in recorded_user_arms(run)}
    trees = {name: str(arms[name].get("tree") or "") for name in (BEFORE, AFTER)}
    folders = {name: PurePath(tree).name for name, tree in trees.items()}
    known = (
        folders if len({*folders.values()}) > 1 else trees,
        {name: str(arms[name].get("target") or "") for name in trees},
        {name: f"order {orders[name]}" if orders.get(name) else "" for name in trees},
    )
    # Omit trees that have the same names as the arms.
    differing = [
        texts
        for texts in known
        if len({*texts.values()}) > 1 and all(texts.values()) and any(texts[name] != name for name in trees)
    ]
    return {name: ", ".join(texts[name] for texts in differing) for name in trees} if differing else {}


def difference_text(runs: NamedRuns, differing: Iterable[str], libraries: Iterable[str]) -> str:
    """Return in words the recorded differences between ``runs``, which are compared arm by arm.

    ``differing`` has the lines about differing machines and settings, and ``libraries`` the lines about differing
    libraries. The text is empty if only the tool itself differs, or if a run is a summary, which records none of these.
    """
    if any("version" not in meta for _, meta in runs):
        return ""
    names = list(dict.fromkeys(line.partition(":")[0] for line in differing))
    names += ["the library"] if any(True for _ in libraries) else []
    names += ["the user arms"] if len({str(_definitions(meta)) for _, meta in runs}) > 1 else []
    return f"recorded differences: {joined(names)}" if names else ""


def likeness_text(runs: NamedRuns, difference: str) -> str:
    """Return the sentence that the records of ``runs`` do not differ.

    The text is empty if there is a ``difference``, which is the text of `difference_text`, if a run is a summary, or if
    nccl-bench itself differs, which a caution says.
    """
    is_known = all("version" in meta for _, meta in runs)
    return "recorded alike" if is_known and not difference and not any(versions(runs)) else ""


def _definitions(meta: Mapping[str, Any]) -> object:
    return meta["config"].get("user_arms") or ()
