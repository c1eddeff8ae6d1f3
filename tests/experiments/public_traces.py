"""Reads recordings that other projects publish, and compares the number of their messages with what they hold.

    git clone https://github.com/facebookresearch/HolisticTraceAnalysis
    git clone https://github.com/facebookresearch/param
    git clone https://github.com/mlcommons/chakra
    python -m tests.experiments.public_traces HolisticTraceAnalysis param chakra

Files inside archives are unpacked into a temporary directory. Other files of these projects are no recordings of
collectives. The counts in ``HELD`` were taken from the events of each file with Python's json alone.
"""

from __future__ import annotations

import argparse
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from nccl_bench.errors import RecordError
from nccl_bench.traces.joining import join
from nccl_bench.traces.readers import read_recordings


class Held(NamedTuple):
    """The content of a file."""

    sized: int  # calls with sizes
    unseen: int  # kernels without sizes


# The end of a path, or of a path in an archive -> what the file holds.
HELD: Mapping[str, Held] = {
    "nccl_parser_config/nccl_data.json.gz": Held(21, 0),
    "trace_diff/control/control.json.gz": Held(0, 60),
    "trace_diff/test/test.json.gz": Held(0, 64),
    "df_index_resolver/df_index_resolver.json.gz": Held(0, 2020),
    "ns_resolution_trace/rank-0.Apr_03_18_51_38.1102.pt.trace.json.gz": Held(35, 0),
    "negative_queue_length_values_check/rank0.json.gz": Held(0, 80),
    "trace_filter/sampled_rank-0.json.gz": Held(0, 10),
    "trace_filter/sampled_rank-1.json.gz": Held(0, 10),
    "rank_non_gpu/rank_non_gpu.json.gz": Held(0, 0),
    "amd_trace/mi250_minitoy_train_ROCm6_2_kineto.json.gz": Held(0, 0),
    "execution_trace/benchmark_simple_add_et.json.gz": Held(0, 0),
    "1.0.3-chakra.0.0.4/resnet_1gpu_et.json.gz": Held(21, 0),
    "1.1.0-chakra.0.0.4/resnet_2gpu_et.json.gz": Held(21, 0),
    "inputs/resnet_et.json.gz": Held(21, 0),
    "inputs/linear_et.json.gz": Held(0, 0),
    "inputs/linear_kineto.json.gz": Held(0, 0),
    **{f"dlrm_eg_{rank}.json": Held(8, 0) for rank in range(8)},
    **{f"worker{rank}_step_12": Held(0, 8) for rank in range(8)},
    "jsonData/chakra.0.json": Held(0, 7),
    "jsonData/small_chakra.0.json": Held(0, 1),
}
# The files of each rank in PARAM's sample of DLRM: together they have every call with its size.
PAIRS = [(f"dlrm_eg_{rank}.json", f"worker{rank}_step_12") for rank in range(8)]


def main() -> int:
    """Read the files of the directories, print what each holds, and return 1 if one holds something else."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directories", nargs="+", type=Path)
    with tempfile.TemporaryDirectory() as scratch:
        paths = dict(files_in(parser.parse_args().directories, Path(scratch)))
        wrong = [name for name, path in paths.items() if not holds(name, (path,), HELD[name])]
        for trace, profile in PAIRS:
            if trace in paths and profile in paths:
                name = f"{profile} and {trace}"
                wrong += [] if holds(name, (paths[profile], paths[trace]), Held(8, 0)) else [name]
    print(f"{len(paths)} of {len(HELD)} files found, {len(wrong)} hold something else {wrong or ''}")
    return 1 if wrong or not paths else 0


def files_in(directories: list[Path], scratch: Path) -> Iterator[tuple[str, Path]]:
    """Yield the names in ``HELD``, each with its file, if it is there."""
    paths = [path for directory in directories for path in directory.rglob("*") if path.is_file()]
    for number, path in enumerate(path for path in paths if path.name.endswith(".tar.gz")):
        with tarfile.open(path) as archive:
            archive.extractall(scratch / str(number), filter="data")
    paths += [path for path in scratch.rglob("*") if path.is_file()]
    for name in HELD:
        yield from [(name, path) for path in paths if name in str(path)][:1]


def holds(name: str, paths: tuple[Path, ...], expected: Held) -> bool:
    """Print what the files hold, and return True if it is what was expected."""
    try:
        (traffic,) = join([recording for path in paths for recording in read_recordings(path)])
    except RecordError as error:
        print(f"{name}: {error}")
        return False
    held = Held(traffic.calls.total(), traffic.unseen.total())
    print(f"{name}: {held.sized} calls with sizes, {held.unseen} without")
    return held == expected


if __name__ == "__main__":
    raise SystemExit(main())
