"""Tests under watch. The fixtures of a test are not watched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any, Self

import pytest

from nccl_bench.analysis.wording import counted
from nccl_bench.audit.findings.audit import join_races, split_suppressed
from nccl_bench.audit.findings.describing import Describer
from nccl_bench.audit.findings.suppressions import Suppression, read_suppressions
from nccl_bench.errors import UsageError
from nccl_bench.report.audit import races_text

# The width of the text in the report of a test.
_WIDTH = 100
# A part of the path of each file that calls a test.
_CALLERS = "/_pytest/"
# The property of a test's report with what was watched. Reports also travel from the processes of pytest-xdist.
_PROPERTY = "nccl_audit"


class WatchedTests:
    """The plugin that is registered with the option."""

    def __init__(self, suppressions: tuple[Suppression, ...]) -> None:
        self._suppressions = suppressions
        self._watched: Counter[str] = Counter()
        self._used: set[int] = set()

    @classmethod
    def of(cls, config: Any) -> Self:
        """Return the plugin for the options of ``config``. Raise pytest's ``UsageError`` if a file is wrong."""
        file = config.getoption("nccl_audit_suppress")
        try:
            return cls(() if file is None else read_suppressions(file))
        except UsageError as error:
            raise pytest.UsageError(str(error)) from error

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Run a test under watch, and fail it if it had a race."""
        from nccl_bench.audit.watching import watch

        result, error = None, None
        with watch() as seen:
            try:
                result = yield
            except BaseException as raised:  # noqa: BLE001 - the watch judges what is queued before the test ends
                error = raised
        races, suppressed = split_suppressed(
            join_races(Describer(0, Path.cwd(), _CALLERS).describe(seen.races)), self._suppressions
        )
        watched = {
            "operations": seen.tally.works,
            "collectives": seen.tally.collectives.total(),
            "used": sorted({each.by.number for each in suppressed}),
            "races": len(races),
        }
        item.user_properties.append((_PROPERTY, watched))
        text = races_text(races, _WIDTH)
        if error is not None:
            if races:
                item.add_report_section("call", "nccl-audit", text)
            raise error
        if races:
            pytest.fail(f"{counted(len(races), 'race')} that nothing orders\n\n{text}", pytrace=False)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up what was watched."""
        if report.when != "call":
            return
        for name, value in report.user_properties:
            if name == _PROPERTY and isinstance(value, dict):
                self._watched.update(tests=1, operations=value["operations"], collectives=value["collectives"])
                self._watched.update(racy=bool(value["races"]))
                self._used.update(value["used"])

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print how much was watched, and which suppressions were used."""
        write = terminalreporter.write_line
        terminalreporter.section("nccl-audit")
        watched = self._watched
        amount = (
            f"{counted(watched['operations'], 'operation')}, {watched['collectives']} of them collectives, in "
            f"{counted(watched['tests'], 'test')}"
        )
        if watched["racy"]:
            write(f"Races in {counted(watched['racy'], 'test')}. Watched: {amount}.")
        elif watched["collectives"]:
            write(f"No race in {amount}. That covers what these tests did, and nothing else.")
        else:
            write(
                f"NOT AUDITED: no collective was seen in {counted(watched['operations'], 'operation')}, in "
                f"{counted(watched['tests'], 'test')}. Processes that a test starts are not watched: see "
                "nccl-bench guide audit."
            )
        for each in self._suppressions:
            state = "used" if each.number in self._used else "not used by these tests"
            write(f"suppression in line {each.number}, {each.text}: {state}")
