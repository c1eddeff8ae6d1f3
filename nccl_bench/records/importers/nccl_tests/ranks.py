"""The list of ranks of a table."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nccl_bench.errors import RecordError
from nccl_bench.records.decoding import shown
from nccl_bench.records.importers.nccl_tests.lines import Line, matches

_RANK = re.compile(
    r"#\s+Rank\s+([0-9]{1,9})(?:\s+Group\s+([0-9]+))?\s+Pid\s+[0-9]+ on\s+(\S+) device\s+[0-9]+ \[[^]]*\]([^#]*)"
)
_PIECE_OF_RANK = re.compile(
    r"#\s+R(?:a(?:n(?:k.*)?)?)?|.*\b(?:Pid\s+[0-9]+ on\s|on\s+\S+ device\s|device\s+[0-9]+ \[).*"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """The list of ranks."""

    world_size: int  # ranks that measure together
    hostnames: tuple[str, ...]  # host name of each rank
    gpus: tuple[str, ...]  # GPU model of each rank
    notes: tuple[str, ...]  # sentences about unusual names


def read_ranks(lines: Sequence[Line], ranks_of_process: int) -> Ranks:
    """Return the ranks; raise ``RecordError`` unless they are 0 to N-1, each on a whole line."""
    for line in lines:
        if not line.aside and _PIECE_OF_RANK.fullmatch(line.text) and not _RANK.fullmatch(line.text):
            raise RecordError(
                f"line {line.number}, {shown(line.text)}, holds a piece of the list of ranks, so a rank is missing: "
                "give the output without lines of other programs in it"
            )
    ranks = matches(_RANK, lines)
    numbers = [int(rank[1]) for rank in ranks]
    if sorted(numbers) != list(range(len(numbers))):
        listed = set(numbers)
        missing = next(rank for rank in range(len(numbers) + 1) if rank not in listed)
        what = f"rank {missing} is missing" if missing < max(numbers) else "a rank is there twice"
        raise RecordError(f"it lists {len(numbers)} ranks up to rank {max(numbers)}, and {what}: give the whole output")
    # With NCCL_TESTS_SPLIT several groups measure at the same time. So count the ranks of one group only.
    world_size = sum(rank[2] == ranks[0][2] for rank in ranks)
    if world_size % ranks_of_process:
        raise RecordError(
            f"it lists {world_size} ranks, but each process has {ranks_of_process}, and {world_size} is not a multiple "
            f"of {ranks_of_process}: the list of ranks in the file is incomplete"
        )
    names = tuple(rank[4].strip() for rank in ranks)
    cut = [name for name in dict.fromkeys(names) if any(other != name and other.startswith(name) for other in names)]
    return Ranks(
        world_size=world_size,
        hostnames=tuple(rank[3] for rank in ranks),
        gpus=names,
        notes=tuple(f"the name of a GPU, {shown(name)}, may be cut" for name in cut),
    )
