"""Thresholds: the differences that matter. A threshold can depend on collective, timing and size. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.catalog.devices import DeviceSpec
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.options import refuse_unknown_keys
from nccl_bench.config.parsers import names_of
from nccl_bench.config.sizes import MOST_BYTES, parse_size
from nccl_bench.config.toml import read_toml
from nccl_bench.errors import RecordError, UsageError

# A ratio that is nearer to 1 than this does not matter in practice.
DEFAULT_THRESHOLD = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The threshold of some collectives, timings and sizes, or of all if none are named."""

    threshold: float  # the difference that matters, as a share of the baseline's time
    collectives: tuple[str, ...] = tuple(COLLECTIVES)  # names in the catalog
    timings: tuple[Timing, ...] = tuple(Timing)  # the timings, in any order
    least_bytes: int = 0  # the smallest size, included
    most_bytes: int = MOST_BYTES  # the largest size, included


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The thresholds of a whole comparison."""

    default: float  # the threshold if no limit matches
    bands: tuple[Limit, ...] = ()  # the limits; the first limit that matches applies

    def threshold(self, collective: str, timing: Timing, size_bytes: int) -> float:
        """Return the difference that matters for one timing of one case."""
        for band in self.bands:
            if (
                collective in band.collectives
                and timing in band.timings
                and band.least_bytes <= size_bytes <= band.most_bytes
            ):
                return band.threshold
        return self.default


def parse_threshold(value: object, name: str = "threshold") -> float:
    """Return ``value``, such as ``0.02`` or ``2%``, as a share. ``name`` is what messages call the threshold."""
    text = str(value).strip()
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if isinstance(value, bool) or not 0 < share < 1:
        raise UsageError(f"{name} is {value!r}: give a share between 0 and 1, such as 0.02 or '2%'")
    return share


def read_limits(path: Path, default: float) -> Limits:
    """Return the limits of a TOML file: ``[[limits]]`` tables, below an optional ``threshold``.

    ``default`` is the threshold if the file has none. Raises ``UsageError`` if the file is missing or malformed. The
    message names the table and what is allowed.
    """
    return limits_of(read_tables(path), default, str(path))


def read_tables(path: Path) -> dict[str, object]:
    """Return the content of a file of limits as plain data, after the same checks as ``read_limits``."""
    values = read_toml(path)
    limits_of(values, 1.0, str(path))
    return values


def recorded_limits(config: Mapping[str, object], default: float, where: str) -> Limits:
    """Return the limits in the ``config`` of a ``run.json``; raise ``RecordError`` if they are malformed."""
    try:
        return limits_of({key: config[key] for key in ("threshold", "limits") if key in config}, default, "its config")
    except UsageError as error:
        raise RecordError(f"{where} cannot be judged: {error}") from error


def limits_of(values: Mapping[str, object], default: float, where: str) -> Limits:
    """Return the limits in ``values``. Messages call these values ``where``."""
    refuse_unknown_keys(values, ("threshold", "limits"), where)
    tables = values.get("limits", [])
    if not isinstance(tables, list | tuple) or not all(isinstance(table, Mapping) for table in tables):
        raise UsageError(f"{where} has limits that are not tables: write each as [[limits]]")
    return Limits(
        default=parse_threshold(values["threshold"], f"{where}: threshold") if "threshold" in values else default,
        bands=tuple(_limit(table, f"{where}, limit {number}") for number, table in enumerate(tables, start=1)),
    )


def _limit(table: Mapping[str, object], where: str) -> Limit:
    refuse_unknown_keys(table, ("threshold", "collectives", "timings", "sizes"), where)
    if "threshold" not in table:
        raise UsageError(f"{where} has no threshold: give one, such as 0.05 or '5%'")
    least, most = _band(table.get("sizes", ":"), where)
    return Limit(
        threshold=parse_threshold(table["threshold"], f"{where}: threshold"),
        collectives=names_of(f"{where}, collectives", table.get("collectives", "all"), COLLECTIVES),
        timings=tuple(map(Timing, names_of(f"{where}, timings", table.get("timings", "all"), Timing))),
        least_bytes=least,
        most_bytes=most,
    )


def _band(value: object, where: str) -> tuple[int, int]:
    """Return the smallest and the largest size of ``FROM:TO``."""
    least, colon, most = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not colon:
        raise UsageError(f"{where} has the sizes {value!r}: give FROM:TO, such as 8:64K, :1M or 1M:")
    try:
        band = parse_size(least) if least else 0, parse_size(most) if most else MOST_BYTES
    except UsageError as error:
        raise UsageError(f"{where}, sizes: {error}") from error
    if band[0] > band[1]:
        raise UsageError(f"{where} has the sizes {value!r}: the first is above the second, so exchange them")
    return band


def parse_tables(_name: str, value: object, _device: DeviceSpec) -> tuple[Mapping[str, object], ...]:
    """Check the tables of the option ``limits``, and return them as plain data for ``run.json``."""
    limits_of({"limits": value}, 1.0, "the configuration")
    assert isinstance(value, list | tuple)
    return tuple(dict(table) for table in value)
