"""The options of nccl-tests that have another form here, or none, as a table.

Source: ``src/common.cu`` of nccl-tests 2.19. An option with the same letter and meaning is not in the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NcclTestsOption:
    """An option of nccl-tests that ``run`` and ``verify`` lack."""

    spellings: tuple[str, ...]  # its spellings in nccl-tests that do not exist here
    answer: str  # why the option is not needed, if there is a reason, and what to give instead


_NPROC = "a GPU has one rank, which is a process of its own: give --nproc N for N GPUs. The default is all GPUs"
_DEVICE_CODE = "kernels that call NCCL on the device are not measured here: leave it out"

NCCL_TESTS_OPTIONS = (
    NcclTestsOption(spellings=("-t", "--nthreads"), answer=_NPROC),
    NcclTestsOption(spellings=("-g", "--ngpus"), answer=_NPROC),
    NcclTestsOption(spellings=("--minbytes",), answer="give -b or --begin"),
    NcclTestsOption(spellings=("--maxbytes",), answer="give -e or --end"),
    NcclTestsOption(spellings=("--stepbytes",), answer="give -i or --step"),
    NcclTestsOption(spellings=("--stepfactor",), answer="give -f or --factor"),
    NcclTestsOption(spellings=("--warmup_iters",), answer="give -w or --warmup"),
    NcclTestsOption(spellings=("--datatype",), answer="give -d or --dtype"),
    NcclTestsOption(spellings=("--per_iter_timing",), answer="give -I or --per-iteration"),
    NcclTestsOption(
        spellings=("-K", "--per_iter_skip"), answer="give -w N: the warm-up operations are before all measured ones"
    ),
    NcclTestsOption(
        spellings=("-m", "--agg_iters"),
        answer="the operations of a batch follow each other without a wait: give -n N for the number of operations",
    ),
    NcclTestsOption(
        spellings=("-N", "--run_cycles"), answer="give --launches N: everything is measured N times, in new processes"
    ),
    NcclTestsOption(
        spellings=("-G", "--cudagraph"),
        answer="captured calls are the timing graph, which is measured by default on GPUs: give --timing graph to "
        "measure nothing else",
    ),
    NcclTestsOption(
        spellings=("-C", "--report_cputime"),
        answer="the time of the CPU is the timing enqueue, which is measured by default: give --timing enqueue to "
        "measure nothing else",
    ),
    NcclTestsOption(
        spellings=("-a", "--average"), answer="a time is that of the slowest rank, as with -a 3: leave it out"
    ),
    NcclTestsOption(
        spellings=("-z", "--blocking"), answer="the CPU never waits between the operations of a batch: leave it out"
    ),
    NcclTestsOption(spellings=("-y", "--stream_null"), answer="give --caller-stream default"),
    NcclTestsOption(spellings=("-p", "--parallel_init"), answer="all ranks start at the same time: leave it out"),
    NcclTestsOption(
        spellings=("-R", "--local_register"), answer="give --register local for -R 1, --register window for -R 2"
    ),
    NcclTestsOption(spellings=("-x", "--cta_policy"), answer="give --env NCCL_CTA_POLICY=N"),
    NcclTestsOption(spellings=("-D", "--device_implementation"), answer=_DEVICE_CODE),
    NcclTestsOption(spellings=("-V", "--device_cta_count"), answer=_DEVICE_CODE),
    NcclTestsOption(spellings=("-M",), answer="NCCL's memory is not reported: --dry-run has the memory of the buffers"),
    NcclTestsOption(spellings=("-u", "--unalign"), answer="buffers are always aligned: leave it out"),
    NcclTestsOption(
        spellings=("-S", "--report_timestamps"),
        answer="run.json has the time at which the run started: leave it out",
    ),
    NcclTestsOption(
        spellings=("-J", "--output_file"),
        answer="every run is recorded: give --out DIRECTORY, and --format json to print the result as JSON",
    ),
)
ANSWERS: Mapping[str, str] = {spelling: row.answer for row in NCCL_TESTS_OPTIONS for spelling in row.spellings}
