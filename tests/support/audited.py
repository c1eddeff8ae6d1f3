"""The races of an audit, as the remarks on the lines of a test.

A test marks a line with a remark such as ``# write``. A race is then a pair of remarks, which says that the audit names
the right lines.
"""

from __future__ import annotations

from nccl_bench.audit import Watch
from nccl_bench.audit.order.races import Access, Race
from nccl_bench.audit.sources.stacks import Stack


def remark(access: Access) -> str:
    """Return the remark on the line of the program that made an access."""
    assert isinstance(access.work.where, Stack)
    frame = access.work.where.user_frame
    assert frame is not None
    return frame.source.rpartition("# ")[2]


def remarks(race: Race) -> tuple[str, str]:
    """Return the remarks of the first and the second access of a race."""
    return remark(race.first), remark(race.second)


def found_at(watch: Watch) -> set[tuple[str, str]]:
    """Return the remarks of all races."""
    return {remarks(race) for race in watch.races}
