"""The browser that all tests of a process share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.browser_page import Page, running_browser
from tests.support.chromium import find_chromium


@pytest.fixture(scope="session")
def page() -> Iterator[Page]:
    """Yield the page of a running browser; skip the test where there is no browser."""
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    with running_browser(program) as page:
        yield page
