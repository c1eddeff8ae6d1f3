from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nccl_bench.records.importers import Imported, read
from tests.support.nccl_tests_files import ROWS, SIZES, TABLE, settings_of


@pytest.fixture
def written(tmp_path: Path) -> Any:
    """Return a function that writes a file and reads it.

    The file is ``text``, by default a table, with the first text of each pair replaced by the second, and with ``rows``
    instead of the table's.
    """

    def write_and_read(
        *replaced: tuple[str, str],
        rows: list[str] | None = None,
        text: str = TABLE,
        name: str = "made-up.txt",
        collective: str | None = None,
    ) -> Imported:
        for old, new in replaced:
            assert old in text
            text = text.replace(old, new)
        if rows is not None:
            text = text.replace("\n".join(ROWS), "\n".join(rows)).replace(SIZES, settings_of(rows))
        (tmp_path / name).write_text(text, encoding="utf-8")
        return read(tmp_path / name, collective)

    return write_and_read
