"""Renames the fields of a ``run.json`` of an older schema to today's names.

The lines of ``samples.jsonl`` need no change: a field that is newer than a line has a default.
"""

from typing import Any

# Schema 3 renamed these keys: (the object that holds the key, its old name, its new name).
_RENAMED_IN_3 = (
    ("config", "plugins", "user_arms"),
    ("worker", "plugins", "user_arms"),
    ("worker", "worlds", "process_sets"),
)


def upgrade(meta: dict[str, Any]) -> dict[str, Any]:
    """Return ``meta`` with today's names; ``meta`` is a parsed ``run.json`` of any schema up to today's.

    The recorded schema number stays as it is: it shows which version wrote the run.
    """
    if meta["schema"] >= 3:
        return meta
    upgraded = dict(meta)
    for place, old, new in _RENAMED_IN_3:
        holder = upgraded.get(place)
        if isinstance(holder, dict) and old in holder:
            upgraded[place] = {new if key == old else key: value for key, value in holder.items()}
    return upgraded
