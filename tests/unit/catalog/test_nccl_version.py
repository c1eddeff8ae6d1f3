from __future__ import annotations

import pytest

from nccl_bench.catalog.nccl_version import version_text


@pytest.mark.parametrize(
    ("version", "text"),
    [(22809, "2.28.9"), (21212, "2.12.12"), (20908, "2.9.8"), (2804, "2.8.4"), (2708, "2.7.8"), (23003, "2.30.3")],
)
def test_a_version_number_reads_as_nccl_h_writes_it(version: int, text: str) -> None:
    assert version_text(version) == text
