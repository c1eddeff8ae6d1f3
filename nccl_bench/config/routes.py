"""Changes to the coordinator's routing table, as the command line and a configuration write them. No torch."""

from collections.abc import Iterable

from nccl_bench.catalog.routes import ROUTES, Backend, Mode, Routes
from nccl_bench.config.nearest import instead_of
from nccl_bench.errors import UsageError


def parse_routes(name: str, value: object, _device: object = None) -> tuple[str, ...]:
    """Return the overrides of the routing table in ``value``, which is a comma-separated text or a list."""
    parts = (value.split(",") if value.strip() else []) if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise UsageError(
            f"{name} is {value!r}: give one or more [OPERATION.]MODE=BACKEND, as a list of texts or comma-separated"
        )
    overrides = tuple(part.strip() for part in parts)
    override(overrides, name=name)
    return overrides


def override(overrides: Iterable[str], routes: Routes = ROUTES, name: str = "routes") -> Routes:
    """Return ``routes`` with ``overrides`` applied in their order. An override is ``[OPERATION.]MODE=BACKEND``.

    An override without an operation applies to all operations. ``name`` is the option in messages. Raises
    ``UsageError`` for a text of another form.
    """
    table = {operation: dict(row) for operation, row in routes.items()}
    for text in overrides:
        place, _, backend = text.partition("=")
        operation, dot, mode = place.rpartition(".")
        form = f"{name} has {text!r}: give [OPERATION.]MODE=BACKEND, such as eager=communicator"
        for part, given, allowed in (
            ("operation", operation if dot else next(iter(table)), table),
            ("mode", mode, Mode),
            ("backend", backend, Backend),
        ):
            if given not in list(allowed):
                raise UsageError(f"{form}. There is no {part} {given!r}: {instead_of(given, allowed)}")
        for each in [operation] if dot else table:
            table[each][Mode(mode)] = Backend(backend)
    return table
