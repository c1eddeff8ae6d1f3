"""The fields of ``run.json`` and ``verification.json``. ``None`` stands for what was not known.

These classes are the definition of the files: a value of another type, or out of its range, is refused. Unknown fields
are kept, because every version adds some. A field of ``config`` or ``worker`` that no report reads is not listed.
"""

from typing import Annotated, NotRequired, TypedDict

from nccl_bench.catalog.bounds import AtLeastOne, Bounds, Count, Few, Name, Size, TimeOrZeroUs
from nccl_bench.config.workload import MOST_MESSAGES

Text = Annotated[str, Bounds(longest=1_000_000)]
# Names of arms, collectives or files.
Names = Annotated[list[Name], Bounds(longest=10_000)]
# Environment variables, versions or reasons, by name.
Texts = Annotated[dict[str, Text], Bounds(longest=10_000)]


class RecordedUserArm(TypedDict):
    """A user arm as the user asked for it."""

    name: Name  # its name in tables
    target: Name  # the communicator, or the built-in arm
    tree: NotRequired[Name | None]  # the directory whose modules win over installed ones
    order: NotRequired[Name | None]  # the order of its calls
    adapter: NotRequired[Name | None]  # the convention that the target follows
    transport: NotRequired[Name | None]  # the binding of a built-in arm
    python: NotRequired[Name | None]  # the interpreter of its processes
    library: NotRequired[Name | None]  # the libnccl of its processes
    variables: NotRequired[Texts | None]  # environment variables of its processes


class RecordedMessage(TypedDict):
    """A message of a workload."""

    collective: Name  # the collective
    dtype: Name  # the data type
    size_bytes: Size  # the size as nccl-tests counts it
    ranks: AtLeastOne  # the number of ranks in the group
    timing: Name  # how the model makes the calls: eager or graph
    count: Count  # the number of calls in all steps together
    reason: NotRequired[Name]  # the place in the model that makes the calls; empty if that is not known


class RecordedWorkload(TypedDict):
    """The messages that a model sends."""

    messages: Annotated[list[RecordedMessage], Bounds(longest=MOST_MESSAGES)]  # the messages
    steps: NotRequired[AtLeastOne]  # the number of steps that the counts belong to
    source: NotRequired[Names]  # the files that the messages were read from, or the model that sends them
    remarks: NotRequired[Names]  # texts about calls of the model that the messages do not have


class RecordedConfig(TypedDict):
    """The configuration of a run."""

    device: Name  # the name of the device
    baseline: Name  # the arm with which the other arms are compared
    arms: Annotated[list[Name], Bounds(longest=1000)]  # the arms
    collectives: NotRequired[Names]  # the collectives
    dtypes: NotRequired[Names]  # the data types
    redops: NotRequired[Names]  # the reductions
    timings: NotRequired[Names]  # the timings
    placements: NotRequired[Names | None]  # the placements; None if arms can differ
    scenario: NotRequired[Name]  # the scenario; absent in runs of older versions, which have only isolated
    sizes: NotRequired[list[Size] | None]  # the message sizes; None in a scenario that does not read them
    hidden: NotRequired[list[AtLeastOne] | None]  # the hidden sizes of a chain
    tokens: NotRequired[list[AtLeastOne] | None]  # the numbers of tokens of a chain
    layers: NotRequired[list[AtLeastOne] | None]  # the numbers of layers of a chain
    workload: NotRequired[RecordedWorkload | None]  # the messages of a model; None if options say what is measured
    delays: NotRequired[list[Few] | None]  # the delays of one rank in microseconds
    product: NotRequired[list[AtLeastOne] | None]  # the sides of the product of an overlap; None if it was chosen
    streams: NotRequired[list[AtLeastOne] | None]  # the numbers of streams of contended collectives
    launches: NotRequired[AtLeastOne | None]  # the number of launches
    processes: NotRequired[Few | None]  # the number of processes of an import
    over_ranks: NotRequired[Name | None]  # the rule for the time of all ranks, in an import
    user_arms: NotRequired[Annotated[list[RecordedUserArm], Bounds(longest=1000)] | None]  # the user arms
    routes: NotRequired[Names | None]  # changes of the routing table
    variables: NotRequired[Texts | None]  # environment variables of all ranks
    nccl_library: NotRequired[Name | None]  # the libnccl
    transport: NotRequired[Name | None]  # the binding
    caller_stream: NotRequired[Name | None]  # the stream of the calls
    same_buffer: NotRequired[bool | None]  # True if all calls use one buffer
    memory: NotRequired[Name | None]  # the allocator of the buffers
    register: NotRequired[Name]  # how the buffers are registered
    check: NotRequired[bool]  # True if results are checked
    per_iteration: NotRequired[bool]  # True if single operations are timed
    cost_split: NotRequired[bool]  # True if the parts of a call are measured
    tuning: NotRequired[bool]  # True if the kernels that NCCL ran are recorded


class RecordedLaunch(TypedDict):
    """The ranks of a run, and who started them."""

    world_size: AtLeastOne  # the number of ranks
    mode: NotRequired[Name]  # who started the ranks
    nproc: NotRequired[AtLeastOne | None]  # the number of ranks on a node
    nnodes: NotRequired[AtLeastOne | None]  # the number of nodes


class RecordedGpu(TypedDict, total=False):
    """A GPU of the machine."""

    index: Few  # its number
    name: Name | None  # the model
    uuid: Name | None  # its identity
    driver: Name | None  # the version of the driver
    power_limit_w: float | None  # the power limit
    sm_clock_max_mhz: Few | None  # the highest clock of the multiprocessors
    memory_clock_max_mhz: Few | None  # the highest clock of the memory


class RecordedEnvironment(TypedDict, total=False):
    """The machine and its versions."""

    hostname: Name | None  # the name of the host
    hostnames: Names | None  # the names of the hosts of an import
    cpu: Name | None  # the model of the CPU
    gpus: Annotated[list[RecordedGpu], Bounds(longest=1000)] | None  # the GPUs
    topology: Text | None  # the output of nvidia-smi topo -m
    packages: Texts | None  # versions by package
    variables: Texts | None  # environment variables
    nccl_conf: dict[str, Texts] | None  # the settings in each configuration file of NCCL


class RecordedTransport(TypedDict, total=False):
    """The library that moves the bytes."""

    name: Name | None  # the transport
    version: Name | None  # the version of the library
    path: Name | None  # the file of the library
    source: Name | None  # where the path came from


class RecordedLibrary(TypedDict, total=False):
    """The libnccl of an arm."""

    arm: Name  # the arm
    version: Name | None  # NCCL's version
    path: Name | None  # the file
    sha256: Name | None  # the hash of the file


class RecordedPath(TypedDict, total=False):
    """The calls that an arm makes for a collective."""

    collective: Name | None  # the collective
    arm: Name | None  # the arm
    eager: Name | None  # the calls outside of graphs
    graph: Name | None  # the calls in graphs


class RecordedProcessSet(TypedDict, total=False):
    """The arms that share processes."""

    arms: Names  # the names of the arms, twins included
    reason: Text | None  # why these arms have processes of their own
    versions: Texts | None  # the versions in these processes


class RecordedMemory(TypedDict, total=False):
    """The memory of an arm, in bytes."""

    device_bytes: list[Size]  # the memory that the communicator took on the device of each rank
    host_bytes: list[Size]  # the growth of the resident memory of each rank
    stranded_bytes: Size  # the memory that calls strand in torch's allocator, on the rank with the most
    stranded_absent: Text  # why `stranded_bytes` is unknown, although torch's allocator lists its memory


class LoadedUserArm(TypedDict, total=False):
    """A user arm as the ranks loaded it."""

    arm: Name  # its name in tables
    where: Text | None  # where it was found
    adapter: Name | None  # the convention that it follows
    order: Name | None  # the order of its calls
    described: Text | None  # how its calls are made
    ready: bool | None  # True if the target was an object that already existed
    supports: Names  # the collectives, with placements
    lacking: Texts | None  # the methods that a collective needs and the arm does not have, by collective
    misfits: Texts | None  # why the arm has a method for a collective that cannot be used, by collective


class RecordedProfile(TypedDict):
    """A profile of untimed calls, which torch.profiler recorded on the first rank."""

    arm: Name  # the arm
    case: Name  # the case
    file: Name  # the file, from the directory of the run
    eager_calls: Count  # the number of calls outside of graphs
    graph_calls: Count  # the number of calls in a replay of a CUDA graph


class RecordedWorker(TypedDict, total=False):
    """The facts that the ranks recorded."""

    torch: Name | None  # the version of torch
    transport: RecordedTransport | None  # the library
    binding_reason: Text | None  # why a slower binding was used
    libraries: Annotated[list[RecordedLibrary], Bounds(longest=1000)] | None  # the libnccl of each arm
    loop_cost_us: TimeOrZeroUs | None  # the time of an empty call
    other_nccl_libraries: Names | None  # further copies of libnccl
    unread_variables: Names | None  # variables that libnccl does not read
    paths: Annotated[list[RecordedPath], Bounds(longest=10_000)] | None  # the calls of the arms
    user_arms: Annotated[list[LoadedUserArm], Bounds(longest=1000)] | None  # the user arms
    process_sets: Annotated[list[RecordedProcessSet], Bounds(longest=1000)] | None  # the arms that share processes
    registered: dict[str, Name] | None  # the result of registration by arm
    expandable_segments: bool | None  # True if torch's allocator used expandable segments
    memory: dict[str, RecordedMemory] | None  # the memory of each arm
    log_absent: Text | None  # why NCCL's log cannot be read
    profiles: Annotated[list[RecordedProfile], Bounds(longest=100_000)]  # the profiles of --profile; absent without it
    products: dict[str, list[AtLeastOne]] | None  # the sides of the chosen products, by the label of the case


class RunMeta(TypedDict):
    """The content of ``run.json``."""

    schema: Few  # the version of the format
    tool: Name  # the program that wrote the file
    version: Name  # the version of that program
    name: Name  # the name of the run
    started: Name  # the time of the start
    status: Name  # a ``RunStatus``
    left_out: list[Text]  # what was asked for and is not measured
    config: RecordedConfig  # what was asked for
    launch: RecordedLaunch  # the ranks
    environment: RecordedEnvironment  # the machine
    finished: NotRequired[Name | None]  # the time of the end; None if no end was recorded
    command: NotRequired[Annotated[list[Text], Bounds(longest=10_000)]]  # the command line
    cases: NotRequired[Count | None]  # the number of planned cases; None for an import
    worker: NotRequired[RecordedWorker | None]  # the facts that the ranks recorded; None if no rank started


class VerifiedConfig(TypedDict, total=False):
    """The configuration of a verification, which `config.verification` checks whole."""

    user_arms: Annotated[list[RecordedUserArm], Bounds(longest=1000)] | None  # the user arms
    variables: Texts | None  # environment variables of all ranks


class VerificationFacts(TypedDict):
    """The facts about the command and the machine in ``verification.json``."""

    tool: Name  # the program that wrote the file
    version: Name  # the version of that program
    started: Name  # the time of the start
    resumed: Annotated[list[Name], Bounds(longest=10_000)]  # when the verification was resumed
    finished: Name | None  # the time of the end; None if the verification has not ended, or was killed
    status: Name  # a ``RunStatus``
    command: Annotated[list[Text], Bounds(longest=10_000)]  # the command line
    config: VerifiedConfig  # what was asked for
    environment: RecordedEnvironment  # the machine
