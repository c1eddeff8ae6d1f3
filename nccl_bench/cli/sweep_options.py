"""The options ``-b``, ``-e``, ``-f`` and ``-i``, which change parts of a sweep."""

from collections.abc import Mapping
from dataclasses import replace

from nccl_bench.config.sizes import Sweep, parse_size
from nccl_bench.errors import UsageError


def changed_sizes(
    written: object,
    begin: str | None,
    end: str | None,
    factor: int | None,
    step: str | None,
    spellings: Mapping[str, str],
) -> tuple[int, ...]:
    """Return the sizes of the sweep that the text ``written`` describes, with the given parts replaced.

    ``spellings`` has the names of the four options in messages.
    """
    if factor is not None and step is not None:
        raise UsageError(f"{spellings['factor']} and {spellings['step']} exclude each other: give a factor or a step")
    try:
        sweep = Sweep.parse(str(written))
    except UsageError as error:
        raise UsageError(
            f"the file's sizes are {written!r}, not a sweep BEGIN:END:xFACTOR, so -b, -e, -f and -i cannot change "
            "them: use --sizes"
        ) from error
    texts = {"begin": begin, "end": end, "step": step}
    given = {name: _size(spellings[name], text) for name, text in texts.items() if text is not None}
    if factor is not None or step is not None:
        sweep = replace(sweep, factor=factor, step=None)
    sweep = replace(sweep, **given)
    try:
        return sweep.sizes
    except UsageError as error:
        names = ", ".join(spellings[name] for name in ("begin", "end", "factor", "step") if name in spellings)
        raise UsageError(f"{names}: {error}") from error


def _size(name: str, text: str) -> int:
    try:
        return parse_size(text)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error
