"""The plugin of pytest: with ``--nccl-audit``, a race fails the test that made it.

pytest imports this module in every project of the environment, so it imports nothing before the option is given.
"""

from pathlib import Path
from typing import Any


def pytest_addoption(parser: Any) -> None:
    """Add the options of the plugin."""
    group = parser.getgroup("nccl-bench")
    group.addoption("--nccl-audit", action="store_true", help="Fail each test that has a race between streams.")
    group.addoption(
        "--nccl-audit-suppress",
        type=Path,
        metavar="FILE",
        help="File of races that you accept: lines of PATTERN [-> PATTERN]: REASON.",
    )


def pytest_configure(config: Any) -> None:
    """Watch the tests if the option was given."""
    if config.getoption("nccl_audit"):
        from nccl_bench.pytest_plugin.watched_tests import WatchedTests

        config.pluginmanager.register(WatchedTests.of(config))
