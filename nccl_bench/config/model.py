"""The shape of a model, which ``--model`` and the table ``model`` of a preset describe. No torch."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, get_args

from nccl_bench.catalog.bounds import AtLeastOne, Name
from nccl_bench.catalog.devices import DEVICES
from nccl_bench.catalog.dtypes import DTYPE_ALIASES, DTYPES
from nccl_bench.config.options import refuse_unknown_keys
from nccl_bench.config.parsers import one_of
from nccl_bench.config.sizes import Sweep, unique
from nccl_bench.errors import UsageError

# The largest value of any key. With larger values, messages could be too large for a record.
_MOST = 10_000_000
_MOST_RANKS = get_args(AtLeastOne)[1].most
_MOST_BATCH_SIZES = 1000
# The most characters of --model. A record holds this text after the name of the option.
_LONGEST_TEXT: int = get_args(Name)[1].longest - len("--model ")
_EXAMPLE = "hidden=7168,layers=61,tokens=1:512:x2"
# The subject of messages about wrong values, which can come from a command line and from files.
_WHERE = "the model"
# The value that stands for all ranks of the run.
ALL = "all"


class Parallel(StrEnum):
    """The ways to divide a model among ranks, by their keys."""

    TENSOR = "tp"  # each rank has a part of every weight
    CONTEXT = "cp"  # each rank has a part of the tokens of a prompt
    DATA = "dp"  # each rank has requests of its own, and a part of the experts


def _number(least: int, most: int = _MOST) -> Callable[[str, object], int]:
    def parse(name: str, value: object) -> int:
        number = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value) else value
        if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
            raise UsageError(f"{name} is {value!r}: give a whole number from {least} to {most:,}")
        return number

    return parse


def _degree(name: str, value: object) -> int | None:
    """Return a number of ranks; ``None`` for all ranks of the run."""
    if value == ALL:
        return None
    try:
        return _number(1, _MOST_RANKS)(name, value)
    except UsageError as error:
        raise UsageError(f"{error}, or {ALL!r} for all ranks of the run") from error


def _tokens(name: str, value: object) -> tuple[int, ...]:
    """Return batch sizes: from a number, a list, a text with commas, or a sweep such as ``1:512:x2``."""
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    sizes: list[int] = []
    for part in parts:
        if isinstance(part, str) and ":" in part:
            try:
                sizes += Sweep.parse(part).sizes
            except UsageError as error:
                raise UsageError(f"{name}: {error}") from error
        else:
            sizes.append(_number(1)(name, part))
    if len(sizes) > _MOST_BATCH_SIZES or max(sizes, default=0) > _MOST:
        raise UsageError(
            f"{name} has {len(sizes)} batch sizes up to {max(sizes):,}: give at most {_MOST_BATCH_SIZES} sizes, none "
            f"above {_MOST:,}"
        )
    return unique(sizes)


def _dtype(name: str, value: object) -> str:
    return one_of(name, DTYPE_ALIASES.get(str(value), value), DTYPES)


def _key(parse: Callable[[str, object], Any], **settings: Any) -> Any:
    return field(metadata={"parse": parse}, **settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The shape of a model, how its ranks share it, and the steps that it makes."""

    layers: int = _key(_number(1))  # the number of decoder layers
    hidden: int = _key(_number(1))  # the width of the hidden states
    heads: int | None = _key(_number(1), default=None)  # attention heads; tp has to divide them
    kv_heads: int | None = _key(_number(1), default=None)  # heads of keys and values, which cp gathers
    head_dim: int | None = _key(_number(1), default=None)  # the width of a head; None: hidden divided by heads
    latent: int | None = _key(_number(1), default=None)  # MLA: the width of a token's state, instead of kv_heads
    index: int | None = _key(_number(1), default=None)  # the width of the indexer's key of sparse attention
    vocabulary: int | None = _key(_number(1), default=None)  # the number of different tokens; None: no logits are sent
    experts: int = _key(_number(0), default=0)  # the number of experts in a layer; 0 for none
    dense_layers: int = _key(_number(0), default=0)  # the number of first layers without experts
    dtype: str = _key(_dtype, default="bfloat16")  # the data type of the hidden states
    tp: int | None = _key(_degree, default=1)  # tensor parallel ranks; None for all ranks of the run
    cp: int | None = _key(_degree, default=1)  # context parallel ranks; None for all ranks of the run
    dp: int | None = _key(_degree, default=1)  # data parallel ranks of attention; None for all ranks of the run
    ep: int = _key(_number(1, _MOST_RANKS), default=1)  # tensor parallel ranks that have different experts
    tokens: tuple[int, ...] = _key(_tokens, default=())  # batch sizes of decode steps; with dp, of each rank
    decode_steps: int = _key(_number(1), default=1)  # the decode steps of each batch size for one prefill
    prefill: int = _key(_number(0), default=0)  # the tokens of a prefill chunk; with dp, of each rank; 0 for none

    @property
    def ways(self) -> tuple[Parallel, ...]:
        """The ways whose number of ranks is not 1. A model has at most one such way."""
        return tuple(way for way in Parallel if getattr(self, way) != 1)

    @property
    def parallel(self) -> Parallel:
        """The way in which the ranks share the model."""
        return next(iter(self.ways), Parallel.TENSOR)

    @property
    def width_of_head(self) -> int:
        """The width of an attention head; 0 if it is unknown."""
        if self.head_dim is not None:
            return self.head_dim
        return self.hidden // self.heads if self.heads else 0

    @property
    def sparse_layers(self) -> int:
        """The number of layers with experts."""
        return self.layers - self.dense_layers if self.experts else 0


def model_values(text: str) -> dict[str, object]:
    """Return the keys and values of ``--model KEY=VALUE,KEY=VALUE``. A list has commas, too: ``tokens=1,32``."""
    if len(text) > _LONGEST_TEXT:
        raise UsageError(
            f"--model has {len(text):,} characters: give at most {_LONGEST_TEXT:,}, with tokens as a sweep such as "
            "tokens=1:512:x2, or put a table [model] into a TOML file"
        )
    values: dict[str, object] = {}
    key = ""
    for part in text.split(","):
        name, equals, value = (each.strip() for each in part.partition("="))
        if equals:
            key = name
            if key in values:
                raise UsageError(f"--model has the key {key!r} twice: give it once")
            values[key] = value
        elif key and part.strip():
            values[key] = f"{values[key]},{part.strip()}"
        else:
            raise UsageError(f"--model is {text!r}: give KEY=VALUE with commas between them, such as {_EXAMPLE}")
    return values


def parse_model(device: str, *layers: Mapping[str, object]) -> tuple[Model, tuple[str, ...]]:
    """Return the model, and texts about its smaller values on ``device``.

    The value of a key comes from the last of ``layers`` that has the key. A layer can have a table for a device, with
    smaller values. Raises ``UsageError`` for keys and values that are not allowed.
    """
    keys = {each.name: each for each in fields(Model)}
    given: dict[str, object] = {}
    smaller: dict[str, object] = {}
    for layer in layers:
        refuse_unknown_keys(layer, (*keys, *DEVICES), _WHERE)
        on_device = layer.get(device, {})
        if not isinstance(on_device, Mapping):
            raise UsageError(f"{_WHERE}: {device} is {on_device!r}: give a table of smaller values")
        refuse_unknown_keys(on_device, keys, f"{_WHERE}: {device}")
        of_model = {key: value for key, value in layer.items() if key in keys}
        smaller = {key: value for key, value in smaller.items() if key not in of_model} | dict(on_device)
        given |= of_model
    missing = [name for name, each in keys.items() if each.default is MISSING and name not in given]
    if missing:
        raise UsageError(f"{_WHERE} has no {missing[0]}: give at least layers, hidden, and tokens or prefill")
    model = _parsed(keys, given | smaller)
    if len(model.ways) > 1:
        raise UsageError(f"{_WHERE} has {' and '.join(model.ways)}: give one of {', '.join(Parallel)}")
    _refuse_contradictions(model)
    whole = _parsed(keys, given)
    changes = [
        f"{name} is {_shown(getattr(model, name))} instead of {_shown(getattr(whole, name))}" for name in smaller
    ]
    return model, (f"the sizes of the model itself: on the {device}, {', '.join(changes)}",) if changes else ()


def _parsed(keys: Mapping[str, Any], values: Mapping[str, object]) -> Model:
    """Return the model with these values. If no value names a way to divide it, all ranks are tensor parallel."""
    model = Model(**{key: keys[key].metadata["parse"](f"{_WHERE}: {key}", value) for key, value in values.items()})
    return model if model.ways or Parallel.TENSOR in values else replace(model, tp=None)


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def _refuse_contradictions(model: Model) -> None:
    """Raise ``UsageError`` if the values of a model do not fit together."""
    reasons = (
        (
            not model.tokens and not model.prefill,
            "neither tokens nor prefill is given: give tokens=1,32 or prefill=8192",
        ),
        (
            model.dense_layers > model.layers,
            f"dense_layers is {model.dense_layers}, and the model has {model.layers} layers: give fewer",
        ),
        (
            model.parallel is Parallel.CONTEXT and bool(model.tokens),
            "context parallelism divides a prompt, and decode steps have none: give prefill and leave tokens out",
        ),
        (
            model.parallel is Parallel.CONTEXT and not model.latent and not (model.kv_heads and model.width_of_head),
            "context parallelism gathers keys and values: give latent, or kv_heads and head_dim",
        ),
        (
            model.parallel is Parallel.CONTEXT
            and model.head_dim is None
            and not model.latent
            and bool(model.heads and model.hidden % model.heads),
            f"hidden is {model.hidden}, which {model.heads} heads do not divide: give head_dim",
        ),
        (
            model.parallel is Parallel.DATA and not model.sparse_layers,
            "data parallel ranks exchange tokens for experts: give experts",
        ),
        (
            model.ep > 1 and model.parallel is not Parallel.TENSOR,
            "ep is for tensor parallel ranks: with cp and dp all ranks share the experts, so leave ep out",
        ),
        (
            model.ep > 1 and not model.sparse_layers,
            f"ep is {model.ep}, and no layer has experts: give experts, or leave ep out",
        ),
        (
            bool(model.experts % model.ep),
            f"ep is {model.ep}, which does not divide {model.experts} experts: give another number",
        ),
    )
    for applies, text in reasons:
        if applies:
            raise UsageError(f"{_WHERE}: {text}")
