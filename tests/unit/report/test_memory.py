"""The table of the memory of each arm."""

from __future__ import annotations

from typing import Any

from nccl_bench.report.memory import memory_tables

MIB = 1024**2


def shown(*memory: dict[str, Any]) -> list[dict[str, list[str]]]:
    metas = [(f"side {number}", {"worker": {"memory": each}}) for number, each in enumerate(memory)]
    return [
        {column.name: [cell.strip() for cell in column.cells] for column in table.columns}
        for table in memory_tables(metas)
    ]


def test_each_arm_has_the_most_of_a_rank() -> None:
    memory = {
        "stream-free": {"device_bytes": [3 * MIB, 5 * MIB], "host_bytes": [MIB, MIB // 2], "stranded_bytes": 0},
        "torch": {"host_bytes": [2 * MIB, MIB], "stranded_bytes": 16 * MIB},
        "stream-free:twin": {"device_bytes": [9 * MIB]},
    }
    assert shown(memory) == [
        {
            "arm": ["stream-free", "torch"],
            "device": ["5.00", ""],
            "host": ["1.00", "2.00"],
            "stranded": ["0.00", "16.00"],
        }
    ]


def test_what_no_arm_has_is_no_column() -> None:
    assert shown({"torch": {"host_bytes": [MIB]}}, {}, {"torch": {}}) == [{"arm": ["torch"], "host": ["1.00"]}]


def test_a_note_says_why_an_arm_has_no_stranded_memory() -> None:
    memory = {"mine": {"host_bytes": [MIB], "stranded_absent": "ValueError: the memory is not registered"}}
    (table,) = memory_tables([("", {"worker": {"memory": memory}})])
    assert table.notes[1:] == ("stranded of mine is not known: ValueError: the memory is not registered.",)
