"""Audit SGLang's communicator before and after its refactor, and measure what a watched step costs.

    python -m tests.experiments.audit_engines --before engines/sglang-0.5.9 --after engines/sglang-0.5.10

Needs two GPUs. The trees are unpacked wheels (``pip download --no-deps sglang==0.5.9``, ``unzip``), or zip files.
Only the files of the communicator are imported; the two helpers that they take from SGLang's large modules are replaced
by the same lines here. Each order is run ``--runs`` times, each time in a watch of its own:

    before, bare                  the private stream, as SGLang's class uses it by default
    before, forked and joined     the caller waits on both sides
    before, forked                the caller's stream does not wait for the private stream
    before, joined                the private stream does not wait for the caller's stream
    before, current stream        ``use_current_stream=True``
    after                         the refactored class
    after, on a side stream       the refactored class, called on a stream of the caller

Then a small decoder does eager steps, plain and watched in alternating blocks, and rank 0 prints the ratio.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from types import ModuleType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention, silu

from nccl_bench.audit import Watch, watch
from nccl_bench.audit.order.races import Access
from nccl_bench.audit.sources.stacks import Stack

_PACKAGE = "sglang.srt.distributed.device_communicators"
_COUNT = 1 << 20  # the elements of the tensor that is reduced


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A way of calling the communicator."""

    name: str  # as printed
    after: bool = False  # True: the refactored class
    forks: bool = False  # True: the private stream waits for the caller's stream
    joins: bool = False  # True: the caller's stream waits for the private stream
    use_current_stream: bool = False  # True: the class is made with this option
    on_side_stream: bool = False  # True: the caller uses a stream of its own


ORDERS = (
    Order(name="before, bare"),
    Order(name="before, forked and joined", forks=True, joins=True),
    Order(name="before, forked", forks=True),
    Order(name="before, joined", joins=True),
    Order(name="before, current stream", use_current_stream=True),
    Order(name="after", after=True),
    Order(name="after, on a side stream", after=True, on_side_stream=True),
)


def load_communicator(tree: Path) -> Any:
    """Return the class ``PyNcclCommunicator`` of a tree, without the rest of SGLang."""
    folder = tree.joinpath(*_PACKAGE.split("."))
    for name in [name for name in sys.modules if name.startswith("sglang")]:
        del sys.modules[name]
    parts = _PACKAGE.split(".")
    for length in range(1, len(parts) + 1):
        package = ModuleType(".".join(parts[:length]))
        package.__path__ = []
        sys.modules[package.__name__] = package
    for name, helper in (
        ("sglang.srt.distributed.utils", type("StatelessProcessGroup", (), {})),
        ("sglang.srt.utils", None),
        ("sglang.srt.utils.common", get_current_device_stream_fast),
    ):
        module = sys.modules[name] = ModuleType(name)
        if helper is not None:
            setattr(module, helper.__name__, helper)
    for name in ("pynccl_wrapper", "pynccl"):
        spec = importlib.util.spec_from_file_location(f"{_PACKAGE}.{name}", folder / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module.PyNcclCommunicator


def get_current_device_stream_fast() -> torch.cuda.Stream:
    """Do what the function of this name in ``sglang.srt.utils.common`` does."""
    return torch.cuda.current_stream()


def step(communicator: Any, order: Order, tensor: Tensor) -> Tensor:
    """Write a tensor, reduce it over the ranks, and read it."""
    caller = torch.cuda.current_stream()
    tensor.fill_(1)
    if order.forks:
        communicator.stream.wait_stream(caller)
    communicator.all_reduce(tensor)
    if order.joins:
        caller.wait_stream(communicator.stream)
    return tensor + 1


def audit(order: Order, communicator: Any, device: torch.device) -> Watch:
    """Return what one watch of a step finds."""
    side: Any = torch.cuda.Stream() if order.on_side_stream else torch.cuda.default_stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(side), communicator.change_state(enable=True):
        tensor = torch.zeros(_COUNT, device=device)
        torch.cuda.synchronize()
        with watch() as watched:
            step(communicator, order, tensor)
    torch.cuda.synchronize()
    return watched


def place(access: Access) -> str:
    """Return the operator of an access and the line of the program, for example ``aten::fill_ at engine.py:12``."""
    assert isinstance(access.work.where, Stack)
    frame = access.work.where.user_frame
    return access.work.name if frame is None else f"{access.work.name} at {Path(frame.path).name}:{frame.line}"


def audit_all(classes: dict[bool, Any], group: dist.ProcessGroup, device: torch.device, runs: int) -> None:
    """Audit every order, and print how many runs found each race."""
    for order in ORDERS:
        options = {"use_current_stream": True} if order.use_current_stream else {}
        communicator = classes[order.after](group, device, **options)
        races: Counter[str] = Counter()
        sources: tuple[str, ...] = ()
        for _ in range(runs):
            watched = audit(order, communicator, device)
            sources = tuple(source.name for source in watched.sources if source.reason_off is None)
            races.update(
                f"{race.kind}, missing {race.missing}: {place(race.first)} and {place(race.second)}"
                for race in watched.races
            )
        if dist.get_rank() == 0:
            print(f"\n{order.name}: {runs} runs" + ("" if races else ", no race"))
            for race, count in races.items():
                print(f"  in {count} of {runs} runs  {race}")
    if dist.get_rank() == 0:
        print(f"\nsources: {', '.join(sources)}")


class Layer(torch.nn.Module):
    """A layer of a decoder with a tensor-parallel all-reduce after each half."""

    def __init__(self, hidden: int, heads: int, reduce: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.heads, self.reduce = heads, reduce
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(hidden) for _ in range(2))
        self.qkv, self.out = torch.nn.Linear(hidden, 3 * hidden), torch.nn.Linear(hidden, hidden)
        self.up, self.down = torch.nn.Linear(hidden, 4 * hidden), torch.nn.Linear(4 * hidden, hidden)
        self.register_buffer("keys", torch.zeros(1, heads, 64, hidden // heads))
        self.register_buffer("values", torch.zeros(1, heads, 64, hidden // heads))

    def forward(self, x: Tensor, position: int) -> Tensor:
        parts = self.qkv(self.norms[0](x)).chunk(3, -1)
        query, key, value = (part.view(1, 1, self.heads, -1).transpose(1, 2) for part in parts)
        keys, values = self.get_buffer("keys"), self.get_buffer("values")
        keys[:, :, position : position + 1] = key
        values[:, :, position : position + 1] = value
        mixed = scaled_dot_product_attention(query, keys[:, :, : position + 1], values[:, :, : position + 1])
        attention: Tensor = self.out(mixed.transpose(1, 2).reshape(x.shape))
        self.reduce(attention)
        x = x + attention
        changed: Tensor = self.down(silu(self.up(self.norms[1](x))))
        self.reduce(changed)
        return x + changed


def measure(reduce: Callable[[Tensor], object], device: torch.device, blocks: int, steps: int) -> None:
    """Print the time of an eager step of a small decoder, plain and watched, in alternating blocks."""
    hidden = 1024
    layers = torch.nn.ModuleList(Layer(hidden, 16, reduce) for _ in range(16)).to(device, torch.bfloat16)

    @torch.no_grad()
    def block_us() -> float:
        begin = time.perf_counter()
        for position in range(steps):
            x = torch.ones(1, 1, hidden, device=device, dtype=torch.bfloat16)
            for layer in layers:
                x = layer(x, position % 64)
        torch.cuda.synchronize()
        return (time.perf_counter() - begin) / steps * 1e6

    block_us()
    plain, watched, races, actions = [], [], 0, 0
    for _ in range(blocks):
        plain.append(block_us())
        with watch() as watch_of_block:
            block_us()  # the first block of a watch meets every tensor for the first time
            watched.append(block_us())
        races, actions = races + len(watch_of_block.races), watch_of_block.actions
    if dist.get_rank() == 0:
        ratios = [after / before for before, after in zip(plain, watched, strict=True)]
        low, middle, high = quantiles(ratios, n=4)
        print(
            f"\nan eager step of {len(layers)} layers: plain {median(plain):.0f} us, watched {median(watched):.0f} us"
        )
        print(f"ratio {middle:.2f}, quartiles {low:.2f} to {high:.2f}, of {blocks} alternating blocks of {steps} steps")
        print(f"{actions / (2 * steps):.0f} actions in a watched step, {races} races")


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Yield the tree at ``path``, which is a folder or a zip file."""
    if path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder, [name for name in archive.namelist() if "/device_communicators/" in name])
        yield Path(folder)


def run_rank(options: argparse.Namespace) -> None:
    """Do one rank's part."""
    dist.init_process_group("gloo")
    device = torch.device("cuda", dist.get_rank())
    torch.cuda.set_device(device)
    group = dist.distributed_c10d._get_default_group()
    with unpacked(options.before) as before, unpacked(options.after) as after:
        classes = {False: load_communicator(before), True: load_communicator(after)}
        if dist.get_rank() == 0:
            print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}, {dist.get_world_size()} ranks")
        audit_all(classes, group, device, options.runs)
        communicator = classes[True](group, device)
        with communicator.change_state(enable=True):
            measure(communicator.all_reduce, device, options.blocks, options.steps)
    dist.destroy_process_group()


def main() -> None:
    """Read the command line; start the ranks, or be one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="tree or zip file of SGLang 0.5.9")
    parser.add_argument("--after", type=Path, required=True, help="tree or zip file of SGLang 0.5.10")
    parser.add_argument("--runs", type=int, default=20, help="watches of each order")
    parser.add_argument("--blocks", type=int, default=11, help="blocks of steps, plain and watched")
    parser.add_argument("--steps", type=int, default=20, help="steps of a block")
    parser.add_argument("--rank", action="store_true", help="be a rank that torchrun started")
    options = parser.parse_args()
    if options.rank:
        run_rank(options)
        return
    module = [f"--nproc-per-node={min(2, torch.cuda.device_count())}", "-m", "tests.experiments.audit_engines"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", *module, *sys.argv[1:], "--rank"]
    sys.exit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
