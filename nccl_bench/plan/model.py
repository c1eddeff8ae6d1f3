"""The messages that a model sends, computed from its shape and the number of ranks.

Which collectives an engine calls was read in the sources of SGLang 0.5.10 and vLLM; each function names the files.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.model import Model, Parallel
from nccl_bench.config.sizes import MOST_BYTES
from nccl_bench.config.workload import Workload, WorkloadMessage, parse_number
from nccl_bench.errors import UsageError

# Both engines pad the vocabulary to a multiple of this number (DEFAULT_VOCAB_PADDING_SIZE in
# vocab_parallel_embedding.py).
_VOCABULARY_PADDING = 64

_WAYS: Mapping[Parallel, str] = {
    Parallel.TENSOR: "tensor-parallel",
    Parallel.CONTEXT: "context-parallel",
    Parallel.DATA: "data-parallel",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """A step of a model."""

    name: str  # the step in words
    tokens: int  # the tokens that all ranks share; with data parallelism, the tokens of each rank
    rows: int  # the tokens that need logits
    timing: Timing  # the way in which the calls are made
    repeats: int  # the number of times that the step is made


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """Equal calls in a step."""

    collective: str  # a name of the catalog
    elements: int  # the elements of the message: the larger of what one rank sends and receives
    ranks: int  # the ranks of the group
    count: int  # the number of calls in the step
    reason: str  # the place in the model that makes the calls


def workload_of_model(
    model: Model, world_size: int, *, source: tuple[str, ...] = (), remarks: tuple[str, ...] = ()
) -> Workload:
    """Return the messages that one rank of ``model`` sends in a run of ``world_size`` ranks.

    ``source`` names the origin of the model's shape, and ``remarks`` name its changes. Raises ``UsageError``
    if the ranks cannot share the model.
    """
    degree = getattr(model, model.parallel)
    ranks = world_size if degree is None else degree
    _refuse_indivisible(model, ranks)
    messages: dict[tuple[str, int, int, Timing], tuple[int, list[str]]] = {}
    for step in _steps(model):
        counts: dict[tuple[str, int, int], list[_Call]] = {}
        for call in _CALLS[model.parallel](model, ranks, step):
            size = call.elements * DTYPES[model.dtype].itemsize
            if call.ranks > 1 and call.count:
                counts.setdefault((call.collective, size, call.ranks), []).append(call)
        for (collective, size, group), calls in counts.items():
            key = (collective, size, group, step.timing)
            count, reasons = messages.get(key, (0, []))
            parts = ", ".join(f"{call.count} {call.reason}" for call in calls)
            count += step.repeats * sum(call.count for call in calls)
            messages[key] = (count, [*reasons, f"{_WAYS[model.parallel]} {step.name}: {parts}"])
    largest = max((size for _, size, _, _ in messages), default=0)
    if not messages:
        raise UsageError(
            "the model sends nothing on one rank: give --nproc 2 or more, or a number of ranks with --model"
        )
    if largest > MOST_BYTES:
        raise UsageError(f"the model has a message of {largest:,} bytes: give fewer tokens or a smaller model")
    return Workload(
        messages=tuple(
            WorkloadMessage(
                collective=collective,
                dtype=model.dtype,
                size_bytes=size,
                ranks=group,
                timing=timing,
                count=count,
                reason="; ".join(reasons),
            )
            for (collective, size, group, timing), (count, reasons) in messages.items()
        ),
        steps=parse_number("steps", sum(step.repeats for step in _steps(model)), "--model: the number of steps"),
        source=source,
        remarks=(*remarks, *_remarks(model)),
    )


def _steps(model: Model) -> Iterator[_Step]:
    for tokens in model.tokens:
        name = f"decode of {_tokens(tokens)}"
        yield _Step(name=name, tokens=tokens, rows=tokens, timing=Timing.GRAPH, repeats=model.decode_steps)
    if model.prefill:
        # One prompt ends in the chunk, and its last token needs logits.
        name = f"prefill of {_tokens(model.prefill)}"
        yield _Step(name=name, tokens=model.prefill, rows=1, timing=Timing.EAGER, repeats=1)


def _tokens(number: int) -> str:
    return "1 token" if number == 1 else f"{number} tokens"


def _tensor(model: Model, ranks: int, step: _Step) -> Iterator[_Call]:
    """Yield the calls of tensor parallel ranks: sums of the parts of each layer, and a gather of the logits.

    SGLang: layers/vocab_parallel_embedding.py, layers/communicator.py, models/llama.py, models/qwen3_moe.py,
    models/deepseek_v2.py, layers/logits_processor.py. vLLM: the same layers, and the logits outside the graph.
    """
    hidden = step.tokens * model.hidden

    def all_reduce(count: int, reason: str, group: int = ranks) -> _Call:
        return _Call(collective="all_reduce", elements=hidden, ranks=group, count=count, reason=reason)

    yield all_reduce(1, "after the embedding")
    yield all_reduce(model.layers, "after attention")
    yield all_reduce(model.layers - model.sparse_layers, "after the MLP")
    if model.ep == 1:
        yield all_reduce(model.sparse_layers, "after the experts")
    else:
        yield all_reduce(model.sparse_layers, "over the ranks with different experts", model.ep)
        yield all_reduce(model.sparse_layers, "over the ranks with parts of the same expert", ranks // model.ep)
    yield from _logits(model, ranks, step)


def _context(model: Model, ranks: int, step: _Step) -> Iterator[_Call]:
    """Yield the calls of context parallel ranks: gathers of keys, values and the last hidden states.

    SGLang with --enable-nsa-prefill-context-parallel and in-seq-split: layers/attention/nsa/utils.py,
    layers/utils/cp_utils.py, layers/attention/nsa/nsa_indexer.py, models/deepseek_v2.py. Each block is padded to the
    longest one. DeepEP exchanges the tokens for the experts without NCCL.
    """
    tokens = -(-step.tokens // ranks) * ranks

    def all_gather(width: int, count: int, reason: str) -> _Call:
        return _Call(collective="all_gather", elements=tokens * width, ranks=ranks, count=count, reason=reason)

    if model.latent:
        yield all_gather(model.latent, model.layers, "of the latent keys and values, asynchronous")
    else:
        yield all_gather((model.kv_heads or 0) * model.width_of_head, model.layers, "of the keys, asynchronous")
        yield all_gather((model.kv_heads or 0) * model.width_of_head, model.layers, "of the values, asynchronous")
    yield all_gather(model.index or 0, model.layers if model.index else 0, "of the indexer's keys, asynchronous")
    yield all_gather(model.hidden, 1, "of the hidden states after the last layer")
    yield from _logits(model, ranks, step)


def _data(model: Model, ranks: int, step: _Step) -> Iterator[_Call]:
    """Yield the calls of data parallel ranks, which send their tokens to all experts and get the sums back.

    vLLM: AgRsAll2AllManager in distributed/device_communicators/all2all.py. SGLang with --moe-dense-tp-size 1 and
    --enable-dp-lm-head: layers/dp_attention.py. In graphs both pad each rank's tokens to the same number. In a prefill
    vLLM sends blocks of different sizes, with all_gatherv and reduce_scatterv in cuda_communicator.py.
    """
    uneven = "" if step.timing is Timing.GRAPH else "v"
    for collective, reason in (("all_gather", "before the experts"), ("reduce_scatter", "after the experts")):
        yield _Call(
            collective=collective + uneven,
            elements=ranks * step.tokens * model.hidden,
            ranks=ranks,
            count=model.sparse_layers,
            reason=reason,
        )


_CALLS: Mapping[Parallel, Callable[[Model, int, _Step], Iterator[_Call]]] = {
    Parallel.TENSOR: _tensor,
    Parallel.CONTEXT: _context,
    Parallel.DATA: _data,
}


def _remarks(model: Model) -> Iterator[str]:
    """Yield texts about messages that an engine sends and the workload does not have."""
    if model.parallel is Parallel.CONTEXT and model.sparse_layers:
        yield "messages of DeepEP, which sends tokens to the experts without NCCL"
    if model.parallel is Parallel.DATA and model.prefill:
        yield "torch.distributed's group for blocks of different sizes: the torch arms send one block after another"
    if not model.vocabulary and model.parallel is not Parallel.DATA:
        yield "the gather of the logits, because the model has no vocabulary"


def _logits(model: Model, ranks: int, step: _Step) -> Iterator[_Call]:
    if model.vocabulary:
        yield _Call(
            collective="all_gather",
            elements=step.rows * _padded(model.vocabulary),
            ranks=ranks,
            count=1,
            reason="of the logits",
        )


def _padded(vocabulary: int) -> int:
    return -(-vocabulary // _VOCABULARY_PADDING) * _VOCABULARY_PADDING


def _refuse_indivisible(model: Model, ranks: int) -> None:
    """Raise ``UsageError`` if ``ranks`` ranks cannot share the model. An engine would refuse them, too."""
    way = model.parallel
    tensor, heads, kv_heads = way is Parallel.TENSOR, model.heads or ranks, model.kv_heads or ranks
    vocabulary = _padded(model.vocabulary) if model.vocabulary and way is not Parallel.DATA else ranks
    refused = {
        f"{heads} attention heads": tensor and heads % ranks > 0,
        f"{kv_heads} heads of keys and values": tensor and kv_heads % ranks > 0 and ranks % kv_heads > 0,
        f"a vocabulary of {vocabulary}": vocabulary % ranks > 0,
        f"experts in groups of ep = {model.ep} ranks": ranks % model.ep > 0,
    }
    for what, applies in refused.items():
        if applies:
            raise UsageError(
                f"{ranks} ranks cannot share {what} evenly: give another --nproc, or a number of ranks in the model, "
                f"such as --model {way}=8"
            )
