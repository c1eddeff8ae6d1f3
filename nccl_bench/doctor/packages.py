"""The packages that a benchmark needs: torch with its CUDA, and nccl4py."""

from collections.abc import Iterator

from nccl_bench.catalog.extras import EXTRA_VERSIONS
from nccl_bench.doctor.diagnosis import Diagnosis, changes, fine, stops
from nccl_bench.doctor.machine import Machine

OLDEST_TORCH = (2, 5)  # pyproject.toml has this version too


def examine_driver(machine: Machine) -> Iterator[Diagnosis]:
    """Yield the version of the driver, and the newest CUDA that it supports."""
    version = machine.nvml.ask("nvmlSystemGetDriverVersion")
    cuda = _driver_cuda(machine)
    if version is not None:
        newest = f", which supports CUDA up to {_text(cuda)}" if cuda else ""
        yield fine(f"driver {version}{newest}")


def examine_torch(machine: Machine) -> Iterator[Diagnosis]:
    """Yield torch's version, and whether it can use the GPUs."""
    facts = machine.torch()
    if facts.problem:
        missing = "No module named 'torch'" in facts.problem
        yield stops(
            "torch is not installed" if missing else f"torch cannot be imported: {facts.problem}",
            "No rank can start. `nccl-bench report` and `compare` still work.",
            "pip install torch" if missing else "python -c 'import torch'   # shows the whole error",
        )
        return
    build = f"for CUDA {facts.cuda}" if facts.cuda else "a CPU build"
    yield fine(f"torch {facts.torch}, {build} ({facts.file})")
    numbers = str(facts.torch).split(".")[:2]
    if all(map(str.isdigit, numbers)) and tuple(map(int, numbers)) < OLDEST_TORCH:
        yield stops(
            f"torch {facts.torch} is too old",
            f"nccl-bench needs torch {'.'.join(map(str, OLDEST_TORCH))} or later.",
            "pip install -U torch",
        )
    if not machine.gpus:
        return
    driver = _driver_cuda(machine)
    if facts.cuda is None:
        yield stops(
            "torch is a CPU build, and the machine has GPUs",
            "No rank can use a GPU.",
            "pip install --force-reinstall torch   # PyPI has the CUDA build",
        )
    elif facts.cuda_problem:
        needs = int(facts.cuda.partition(".")[0])
        too_old = f" The driver supports CUDA up to {_text(driver)}." if driver and driver // 1000 < needs else ""
        yield stops(
            f"torch cannot use the GPUs: {facts.cuda_problem}",
            f"No rank can use a GPU.{too_old}",
            f"pip install torch --index-url https://download.pytorch.org/whl/cu{driver // 1000}{driver % 1000 // 10}"
            if driver and too_old
            else "python -c 'import torch; torch.cuda.init()'   # shows the whole error",
        )


def examine_nccl4py(machine: Machine) -> Iterator[Diagnosis]:
    """Yield a diagnosis that says whether the arm nccl4py can be measured."""
    facts, needed = machine.torch(), EXTRA_VERSIONS["nccl4py"]
    if facts.nccl4py is None:
        yield fine(f"not installed, so the arm nccl4py is not measured (pip install nccl4py=={needed})")
    elif facts.nccl4py_problem:
        yield changes(facts.nccl4py_problem, "The arm nccl4py is not measured.", f"pip install nccl4py=={needed}")
    else:
        yield fine(f"nccl4py {facts.nccl4py}")


def _driver_cuda(machine: Machine) -> int | None:
    """Return the newest CUDA of the driver as a number, such as 13000 for 13.0; ``None`` if it is not known."""
    version = machine.nvml.ask("nvmlSystemGetCudaDriverVersion_v2")
    return None if version is None else int(version)


def _text(cuda: int | None) -> str:
    return "" if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}"
