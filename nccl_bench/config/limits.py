"""What difference matters: one threshold, or several by collective, timing and size. No torch."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.sizes import MOST_BYTES, parse_size
from nccl_bench.errors import RecordError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A threshold, as a share of the baseline's time, for what matches every field; sizes include both ends."""

    threshold: float
    collectives: tuple[str, ...] = tuple(COLLECTIVES)
    timings: tuple[Timing, ...] = tuple(Timing)
    least_bytes: int = 0
    most_bytes: int = MOST_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """``default`` where none of ``bands`` matches, else the first one that does."""

    default: float
    bands: tuple[Limit, ...] = ()

    def threshold(self, collective: str, timing: Timing, size_bytes: int) -> float:
        """What matters there."""
        for band in self.bands:
            if (
                collective in band.collectives
                and timing in band.timings
                and band.least_bytes <= size_bytes <= band.most_bytes
            ):
                return band.threshold
        return self.default


_KEYS = ("threshold", "collectives", "timings", "sizes")


def parse_threshold(value: object, where: str = "") -> float:
    """``0.02`` or ``2%`` as a share; raises ``UsageError``, naming ``where``, for what is none between 0 and 1."""
    text = str(value).strip()
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if isinstance(value, bool) or not 0 < share < 1:
        place = f"{where}: " if where else ""
        raise UsageError(f"{place}threshold is {value!r}: it has to be a share between 0 and 1, as 0.02 or '2%'")
    return share


def read_limits(path: Path, default: float) -> Limits:
    """The limits of a TOML file with ``[[limits]]`` tables, and maybe a ``threshold`` of its own above them.

    Raises ``UsageError`` for a file that is missing or malformed, naming the table and what is allowed.
    """
    return limits_of(read_tables(path), default, str(path))


def read_tables(path: Path) -> dict[str, object]:
    """The same file as plain data, checked; raises ``UsageError`` as ``read_limits``."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{path} cannot be read as limits: {reason}") from error
    limits_of(values, 1.0, str(path))
    return values


def recorded_limits(config: Mapping[str, object], default: float, where: str) -> Limits:
    """What a run was measured for, by the ``config`` of its ``run.json``; raises ``RecordError`` naming ``where``."""
    try:
        return limits_of({key: config[key] for key in ("threshold", "limits") if key in config}, default, "its config")
    except UsageError as error:
        raise RecordError(f"{where} cannot be judged: {error}") from error


def limits_of(values: Mapping[str, object], default: float, where: str) -> Limits:
    """The same from plain data, which ``where`` names in messages."""
    _refuse_unknown(values, ("threshold", "limits"), where)
    tables = values.get("limits", [])
    if not isinstance(tables, list) or not all(isinstance(table, Mapping) for table in tables):
        raise UsageError(f"{where} has limits that are no tables: write each as [[limits]]")
    return Limits(
        default=parse_threshold(values["threshold"], where) if "threshold" in values else default,
        bands=tuple(_limit(table, f"{where}, limit {number}") for number, table in enumerate(tables, start=1)),
    )


def _limit(table: Mapping[str, object], where: str) -> Limit:
    _refuse_unknown(table, _KEYS, where)
    if "threshold" not in table:
        raise UsageError(f"{where} has no threshold: give one, as 0.05 or 5%")
    least, most = _band(table.get("sizes", ":"), where)
    return Limit(
        threshold=parse_threshold(table["threshold"], where),
        collectives=_choices(table.get("collectives", list(COLLECTIVES)), COLLECTIVES, "collectives", where),
        timings=tuple(
            Timing(name) for name in _choices(table.get("timings", list(Timing)), list(Timing), "timings", where)
        ),
        least_bytes=least,
        most_bytes=most,
    )


def _choices(value: object, allowed: Mapping[str, object] | Sequence[str], key: str, where: str) -> tuple[str, ...]:
    names = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name in allowed for name in names):
        raise UsageError(f"{where} has the {key} {value!r}: give one or more of {', '.join(allowed)}")
    return tuple(map(str, names))


def _band(value: object, where: str) -> tuple[int, int]:
    least, colon, most = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not colon:
        raise UsageError(f"{where} has the sizes {value!r}: give FROM:TO, as 8:64K, :1M or 1M:")
    try:
        band = parse_size(least) if least else 0, parse_size(most) if most else MOST_BYTES
    except UsageError as error:
        raise UsageError(f"{where}, sizes: {error}") from error
    if band[0] > band[1]:
        raise UsageError(f"{where} has the sizes {value!r}: the first is above the second")
    return band


def _refuse_unknown(values: Mapping[str, object], known: Sequence[str], where: str) -> None:
    for key in values:
        if key not in known:
            raise UsageError(f"{where} has the unknown key {key!r}; allowed: {', '.join(known)}")
