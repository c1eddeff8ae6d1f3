"""Changes of the inputs of readers that are fuzzed."""

from __future__ import annotations

import json
import random

from tests.support.mutations import (
    change_bytes,
    change_json,
    change_lines,
    change_words,
    dumped,
    lengthen,
    lengthen_json,
)

# The share of the changes that make a text, a line or a list very long.
LONG = 0.02


def change_record(chance: random.Random, name: str, content: bytes) -> bytes:
    """Change one file of a record: mostly by the structure of its JSON, else by its lines or bytes."""
    how = chance.random()
    if how < 0.1:
        return change_bytes(chance, content)
    if how < 0.2:
        return _change_lines(chance, content)
    change = lengthen_json if chance.random() < LONG else change_json
    if not name.endswith("l"):
        return dumped(change(chance, json.loads(content)))
    lines = content.splitlines(keepends=True)
    for _ in range(chance.choice((1, 1, 3))):
        at = chance.randrange(len(lines))
        try:
            value = json.loads(lines[at])
        except ValueError:
            continue
        lines[at] = dumped(change(chance, value)) + b"\n"
    return b"".join(lines)


def change_text(chance: random.Random, name: str, content: bytes) -> bytes:
    if name.endswith(".json") and chance.random() < 0.7:
        change = lengthen_json if chance.random() < LONG else change_json
        return dumped(change(chance, json.loads(content)))
    return change_bytes(chance, content) if chance.random() < 0.2 else _change_lines(chance, content)


def _change_lines(chance: random.Random, content: bytes) -> bytes:
    change = lengthen if chance.random() < LONG else change_lines
    return change(chance, content.decode(errors="replace")).encode(errors="surrogatepass")


def change_arm(chance: random.Random, _name: str, content: bytes) -> bytes:
    change = lengthen if chance.random() < LONG else change_words
    return change(chance, content.decode()).encode(errors="surrogatepass")


def change_recording(chance: random.Random, name: str, content: bytes) -> bytes:
    if not name.endswith((".json", ".log", ".jsonl")):
        return change_bytes(chance, content)
    return change_text(chance, name, content)
