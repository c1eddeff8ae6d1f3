"""Finds calls for kernels without sizes: a communicator must have made them in the order of the kernels."""

from collections.abc import Iterator, Sequence

from nccl_bench.errors import RecordError
from nccl_bench.traces.names import kernel_of
from nccl_bench.traces.recording import DEFAULT_STREAM, Launch, Message, Mode, Recording

# The most different messages: each is one letter of a text, and Unicode has only a few more letters. The same number
# limits the messages of all fitting sequences together.
_MOST_MESSAGES = 1_000_000


class Calls:
    """The calls of one recording in their order. Each call is one letter of a text, which Python searches fast.

    A sequence of calls fits a launch if one communicator made the launch's collectives in their order on one stream. A
    call on the legacy default stream cannot be in a graph. If several sequences fit, the numbers of channels can rule
    some of them out.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._letter_of: dict[object, str] = {}
        self._spelled = [
            (stream, self._text([kernel_of(each.collective) for each in messages]), self._text(messages))
            for (_, stream), messages in recording.sequences.items()
        ]
        self._meaning = {letter: meaning for meaning, letter in self._letter_of.items() if isinstance(meaning, Message)}

    def fitting(self, launch: Launch) -> list[tuple[Message, ...]]:
        """Return the different sequences of messages that fit ``launch``."""
        if not {*launch.collectives} <= self._letter_of.keys():
            return []
        texts: dict[str, None] = {}
        for text in self._texts(launch):
            texts[text] = None
            if len(texts) > 1 and len(texts) * len(text) > _MOST_MESSAGES:
                break
        sequences = [tuple(self._meaning[letter] for letter in text) for text in texts]
        if len(sequences) > 1:
            return [each for each in sequences if self._has_channels(each, launch)] or sequences
        return sequences

    def _texts(self, launch: Launch) -> Iterator[str]:
        """Yield the messages, as a text, at each place where the collectives are those of ``launch``."""
        sought = self._text(launch.collectives)
        for stream, collectives, messages in self._spelled:
            if launch.mode is Mode.GRAPH and stream == DEFAULT_STREAM:
                continue
            start = collectives.find(sought)
            while start >= 0:
                yield messages[start : start + len(sought)]
                start = collectives.find(sought, start + 1)

    def _text(self, meanings: Sequence[object]) -> str:
        if len(self._letter_of) + len({*meanings}) > _MOST_MESSAGES:
            raise RecordError(f"{self._recording.file} has more than {_MOST_MESSAGES:,} different messages")
        return "".join([self._letter_of.setdefault(each, chr(len(self._letter_of))) for each in meanings])

    def _has_channels(self, messages: Sequence[Message], launch: Launch) -> bool:
        """Return False if NCCL ran one of ``messages`` with other channels than the kernel of ``launch`` has."""
        for message, channels in zip(messages, launch.channels, strict=True):
            known = {kernel.channels for kernel in self._recording.kernels.get(message, ())}
            if known and channels is not None and not known & {channels, None}:
                return False
        return True
