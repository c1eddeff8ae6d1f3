"""Reads execution traces: the graphs of operators that torch's ExecutionTraceObserver writes, for PARAM and Chakra.

In newer traces a call has attributes such as ``collective_name``. In all traces, a call has the same inputs in the same
order: tensors, sequence number, group, rank, name, sizes of the blocks. A graph in Chakra's own JSON has kernels
without sizes.
"""

from collections import Counter
from typing import Any

from nccl_bench.errors import RecordError
from nccl_bench.traces.names import ElementType, collective_of, is_no_collective, kernel_collective, torch_type
from nccl_bench.traces.recording import Call, Launch, Message, Mode, Recording, left_out, message_of_tensors
from nccl_bench.traces.streaming import Unpacked
from nccl_bench.traces.values import is_uneven, mapping, number_before, sequence, text, whole

SOURCE = "execution trace"
_CALL = "record_param_comms"
_OF_CHAKRA = b'"workload_graph"'
# The values of one tensor in the inputs: identifiers of tensor and storage, offset, elements, bytes of an element.
_ELEMENTS, _ITEMSIZE = 3, 4


def recognise(head: bytes) -> bool:
    """Return True if a file that begins with ``head`` is an execution trace."""
    return head.lstrip().startswith(b"{") and ((b'"schema"' in head and b'"nodes"' in head) or _OF_CHAKRA in head)


def read(unpacked: Unpacked, file: str) -> list[Recording]:
    """Return the recording of the one rank of an execution trace."""
    if _OF_CHAKRA in unpacked.head:
        return [_read_chakra(unpacked, file)]
    messages: list[Message] = []
    unknown: Counter[str] = Counter()
    nodes = 0
    for node in unpacked.items("nodes.item"):
        nodes += 1
        if not isinstance(node, dict) or _CALL not in text(node.get("name")):
            continue
        name, message = _call(node)
        if message is not None:
            messages.append(message)
        elif not is_no_collective(name):
            unknown[name] += 1
    if not nodes:
        raise RecordError("it is no execution trace: it has no list `nodes`")
    return [
        Recording(
            source=SOURCE,
            file=file,
            process=number_before(unpacked.head, "pid", "nodes"),
            calls=Counter(Call(message, Mode.UNKNOWN, "") for message in messages),
            sequences={("", ""): messages},
            remarks=left_out(unknown),
        )
    ]


def _call(node: dict[str, Any]) -> tuple[str, Message | None]:
    """Return the name of the collective of a call, and the message; ``None`` if the collective is not known."""
    attributes = {text(each.get("name")): each.get("value") for each in map(mapping, sequence(node.get("attrs")))}
    inputs = _values(node, "inputs")
    name = text(attributes.get("collective_name")) or next((each for each in inputs if isinstance(each, str)), "")
    collective = collective_of(name)
    if collective is None or not inputs:
        return name, None
    splits = (attributes.get("in_split_size"), attributes.get("out_split_size"))
    after = inputs[inputs.index(name) + 1 :] if name in inputs else []
    if not any(map(sequence, splits)):
        splits = (after[0], after[1]) if len(after) > 1 else (None, None)
    # Newer traces end with three values: the group's first rank, the step between ranks, and the number of ranks.
    ranks = whole(attributes.get("pg_size")) or (whole(after[4]) if len(after) > 4 else None)
    ranks = ranks or len(sequence(splits[0]))
    element = torch_type(text(attributes.get("dtype"))) or _type_of_inputs(node)
    counts = [whole(attributes.get(key)) for key in ("in_msg_nelems", "out_msg_nelems")]
    if element is not None and counts[0] is not None and counts[1] is not None:
        sent, received = (count * element.itemsize for count in counts if count is not None)
    else:
        outputs = _values(node, "outputs")
        sent, received = _bytes_of(inputs[0]), _bytes_of(outputs[0] if outputs else None)
    return name, message_of_tensors(
        collective, sent, received, ranks, element.name if element else None, is_uneven(*splits)
    )


def _values(node: dict[str, Any], key: str) -> list[Any]:
    """Return the values of the inputs or outputs. Since schema 1.0.2 an object holds them, with shapes and types."""
    part = node.get(key)
    return sequence(part["values"]) if isinstance(part, dict) and "values" in part else sequence(part)


def _type_of_inputs(node: dict[str, Any]) -> ElementType | None:
    """Return the type in the text for the first input, such as ``GenericList[Tensor(float)]``; ``None`` if unknown."""
    types = sequence(node.get("input_types")) or sequence(mapping(node.get("inputs")).get("types"))
    _, _, inner = text(types[0] if types else "").partition("Tensor(")
    return torch_type(inner.partition(")")[0])


def _bytes_of(value: Any) -> int:
    """Return the bytes of a tensor, or of all tensors of a list."""
    values = sequence(value)
    if len(values) > _ITEMSIZE and whole(values[_ELEMENTS]) is not None:
        return (whole(values[_ELEMENTS]) or 0) * (whole(values[_ITEMSIZE]) or 0)
    # A list of tensors. Lists inside it do not count.
    return sum(_bytes_of(each) for each in values if isinstance(each, list) and each and not isinstance(each[0], list))


def _read_chakra(unpacked: Unpacked, file: str) -> Recording:
    names = (text(node.get("Name")) for node in map(mapping, unpacked.items("workload_graph.item")))
    of_file = tuple(kernel_collective(name) for name in names if name.startswith("nccl"))
    launches = Counter({Launch(Mode.EAGER, of_file, (None,) * len(of_file), ()): 1} if of_file else {})
    return Recording(source=SOURCE, file=file, launches=launches)
