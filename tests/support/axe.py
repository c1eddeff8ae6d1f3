"""axe-core, which checks a page for barriers to people with disabilities."""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from pathlib import Path

from tests.support.browser_page import Page


def violations(page: Page) -> list[str]:
    """Return what axe-core finds in the page: the rule, the element, and what is wrong."""
    page.evaluate(_script())
    broken_rules = page.evaluate("axe.run(document, {resultTypes: ['violations']}).then(results => results.violations)")
    return [
        f"{violation['id']}: {node['target']}: {node['failureSummary']}"
        for violation in broken_rules
        for node in violation["nodes"]
    ]


@cache
def _script() -> str:
    """Return the text of axe.min.js: the file in the variable AXE_CORE, else the one in the package axe-core-python."""
    given = os.environ.get("AXE_CORE")
    if given:
        return Path(given).read_text(encoding="utf-8")
    # The package itself needs no import: it would bring the drivers of two other tools.
    package = importlib.util.find_spec("axe_core_python")
    assert package is not None, "axe-core-python is not installed"
    assert package.origin is not None
    return Path(package.origin).with_name("axe.min.js").read_text(encoding="utf-8")
