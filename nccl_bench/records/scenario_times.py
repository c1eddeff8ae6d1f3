"""The times that the lines of some scenarios have besides the time of a call, in microseconds (``_us``)."""

from dataclasses import asdict, dataclass

from nccl_bench.catalog.bounds import Few, Name, TimeOrZeroUs, TimeUs
from nccl_bench.errors import RecordError


@dataclass(frozen=True, slots=True, kw_only=True)
class Skew:
    """The times of the rank that came late to each call, in the scenario ``skew``. One entry for each kept round."""

    late_rank: Few  # the rank that came late
    delay_us: tuple[TimeOrZeroUs, ...]  # the delay of its calls, measured on its device
    late_rank_us: tuple[TimeOrZeroUs, ...]  # the time of its calls: the transfer, because all others already wait

    def has_rounds(self, count: int) -> bool:
        """Return True if there are times of ``count`` rounds."""
        return len(self.delay_us) == len(self.late_rank_us) == count


@dataclass(frozen=True, slots=True, kw_only=True)
class PartTimes:
    """The times of the parts of an overlap: one entry for each round of the parts.

    Each time is the maximum over ranks, per call. The last four lists come from events around the product and around
    the collective. They are empty in a graph, and for a collective on a stream that a library hides.
    """

    product: Name  # the sides of the matrix product, such as `4096x4096x16384`
    product_us: tuple[TimeUs, ...]  # the product alone
    collective_us: tuple[TimeUs, ...]  # the collective alone
    sequence_us: tuple[TimeUs, ...]  # the product, then the collective
    together_us: tuple[TimeUs, ...]  # the collective beside the product
    product_in_sequence_us: tuple[TimeUs, ...] = ()  # the product before the collective
    collective_in_sequence_us: tuple[TimeUs, ...] = ()  # the collective after the product
    product_together_us: tuple[TimeUs, ...] = ()  # the product beside the collective
    collective_together_us: tuple[TimeUs, ...] = ()  # the collective beside the product


def check_parts(parts: PartTimes) -> None:
    """Raise ``RecordError`` if the times of ``parts`` are not of the same rounds."""
    lists = {name: value for name, value in asdict(parts).items() if name != "product"}
    rounds = len(parts.product_us)
    required = (parts.collective_us, parts.sequence_us, parts.together_us)
    if (
        not rounds
        or any(len(times) != rounds for times in required)
        or any(len(times) not in (rounds, 0) for times in lists.values())
    ):
        raise RecordError(f"the lists of parts are empty or differ in length: {', '.join(lists)}")
