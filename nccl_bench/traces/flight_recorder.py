"""Reads the flight recorder of torch.distributed: the last calls of each rank, as JSON or as a pickle of plain data."""

import json
from collections import Counter
from typing import Any

from nccl_bench.errors import RecordError
from nccl_bench.safety.plain_data import refuse_unbounded
from nccl_bench.safety.plain_pickle import MOST_BYTES_OF_PICKLE, load_plain_pickle
from nccl_bench.safety.regular_files import MOST_BYTES_OF_TEXT
from nccl_bench.traces.names import collective_of, is_no_collective, torch_type
from nccl_bench.traces.recording import Call, Message, Mode, Recording, left_out, message_of_tensors
from nccl_bench.traces.streaming import Unpacked
from nccl_bench.traces.values import elements, mapping, sequence, text, whole

SOURCE = "flight recorder"
# The first bytes of a pickle of protocol 2 or newer.
_PICKLES = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
_KEYS = (b'"pg_config"', b'"comm_lib_version"', b'"nccl_version"', b'"profiling_name"')


def recognise(head: bytes) -> bool:
    """Return True if a file that begins with ``head`` is a dump of the flight recorder."""
    return head.startswith(_PICKLES) or (
        head.lstrip().startswith(b"{") and b'"entries"' in head and any(key in head for key in _KEYS)
    )


def read(unpacked: Unpacked, file: str) -> list[Recording]:
    """Return the recording of the one rank of a dump."""
    try:
        if unpacked.head.startswith(_PICKLES):
            dump = load_plain_pickle(unpacked.read_all(MOST_BYTES_OF_PICKLE))
        else:
            dump = json.loads(unpacked.read_all(MOST_BYTES_OF_TEXT))
            refuse_unbounded(dump)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RecordError(f"it is no dump of the flight recorder that can be read: {reason[:200]}") from error
    fields = mapping(dump)
    if not isinstance(fields.get("entries"), list):
        raise RecordError("it is no dump of the flight recorder: it has no list `entries`")
    groups = mapping(fields.get("pg_config"))
    sizes = {name: len(sequence(mapping(group).get("ranks"))) for name, group in groups.items()}
    messages: list[Message] = []
    unknown: Counter[str] = Counter()
    for entry in map(mapping, fields["entries"]):
        name = text(entry.get("profiling_name"))
        if is_no_collective(name):
            continue
        message = _message(entry, name, sizes)
        if message is None:
            unknown[name] += 1
        else:
            messages.append(message)
    return [
        Recording(
            source=SOURCE,
            file=file,
            rank=whole(fields.get("rank")),
            calls=Counter(Call(message, Mode.UNKNOWN, "") for message in messages),
            sequences={("", ""): messages},
            remarks=left_out(unknown),
        )
    ]


def _message(entry: dict[str, Any], name: str, sizes: dict[str, int]) -> Message | None:
    collective = collective_of(name)
    names = (*sequence(entry.get("input_dtypes")), *sequence(entry.get("output_dtypes")))
    types = [torch_type(text(each)) for each in names]
    if collective is None or not types or types[0] is None:
        return None
    group = sequence(entry.get("process_group"))
    ranks = sizes.get(text(group[0])) if group else None
    itemsize = types[0].itemsize
    return message_of_tensors(
        collective,
        elements(entry.get("input_sizes")) * itemsize,
        elements(entry.get("output_sizes")) * itemsize,
        ranks,
        types[0].name,
    )
