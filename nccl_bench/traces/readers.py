"""The table of the formats that are read, and the reading of files."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nccl_bench.errors import RecordError
from nccl_bench.traces import execution_trace, flight_recorder, inspector, kineto, nccl_log
from nccl_bench.traces.recording import Recording
from nccl_bench.traces.streaming import Unpacked, open_recording

# The rank in the name of a file, such as nccl-rank3.log.
_RANK = re.compile(r"rank[-_. ]?(\d{1,6})(?!\d)", re.IGNORECASE)
# The advice for kernels without sizes.
ADD_LOG = f"add a log of NCCL, recorded with {nccl_log.VARIABLES}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """The reader of one format."""

    files: str  # the files that the reader accepts, for messages
    recognise: Callable[[bytes], bool]  # takes the beginning of a file; True if the file has the format
    read: Callable[[Unpacked, str], list[Recording]]  # takes the content and the name of a file
    unseen: str  # the limits of the format, and the file to add; empty if other remarks say so


# The format -> its reader. If a rank has several recordings, the counts come from the format that is first here.
READERS: Mapping[str, Reader] = {
    kineto.SOURCE: Reader(
        files="a trace of torch.profiler (JSON)",
        recognise=kineto.recognise,
        read=kineto.read,
        unseen="",
    ),
    execution_trace.SOURCE: Reader(
        files="an execution trace of PARAM or Chakra (JSON)",
        recognise=execution_trace.recognise,
        read=execution_trace.read,
        unseen="An execution trace has only the calls of torch.distributed. It does not say whether a graph repeats "
        "them: add a trace of torch.profiler",
    ),
    inspector.SOURCE: Reader(
        files="lines of NCCL's inspector (JSON)",
        recognise=inspector.recognise,
        read=inspector.read,
        unseen=f"NCCL's inspector writes no data types, and by default no messages below 8 KiB: {ADD_LOG}",
    ),
    nccl_log.SOURCE: Reader(
        files="a log of NCCL (NCCL_DEBUG_SUBSYS=COLL,TUNING)",
        recognise=nccl_log.recognise,
        read=nccl_log.read,
        unseen="A log of NCCL has the calls of a graph once, from the capture, and also the calls of warm-up: add a "
        "trace of torch.profiler, which has how often each graph ran",
    ),
    flight_recorder.SOURCE: Reader(
        files="a dump of torch's flight recorder (JSON or pickle)",
        recognise=flight_recorder.recognise,
        read=flight_recorder.read,
        unseen="The flight recorder has only the last calls of torch.distributed, those of warm-up included, and none "
        "of a graph: add a trace of torch.profiler and a log of NCCL",
    ),
}


def read_all(paths: Sequence[Path]) -> list[Recording]:
    """Return the recordings of all files, each file once. Files that have the same name are called by their paths.

    Raises ``RecordError`` as ``read_recordings`` does.
    """
    paths = list(dict.fromkeys(paths))
    files_of_name = Counter(path.name for path in paths)
    return [
        replace(recording, file=str(path)) if files_of_name[path.name] > 1 else recording
        for path in paths
        for recording in read_recordings(path)
    ]


def read_recordings(path: Path) -> list[Recording]:
    """Return the recordings of the file ``path``, one for each rank.

    Raises ``RecordError`` with the file, what is wrong and what is allowed.
    """
    with open_recording(path) as unpacked:
        reader = next((each for each in READERS.values() if each.recognise(unpacked.head)), None)
        # A job's log can begin with many lines of other programs.
        chosen = reader or (READERS[nccl_log.SOURCE] if b"\0" not in unpacked.head else None)
        recordings = chosen.read(unpacked, path.name) if chosen else []
        if reader is None and not any(each.calls for each in recordings):
            known = "; ".join(each.files for each in READERS.values())
            kind = "it is empty" if not unpacked.head else "it has none of the formats that are read"
            raise RecordError(f"{kind}. Give one of these, which can be compressed with gzip: {known}")
    named = _RANK.search(path.name)
    if named and len(recordings) == 1 and recordings[0].rank is None:
        return [replace(recordings[0], rank=int(named[1]))]
    return recordings
