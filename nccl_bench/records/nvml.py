"""NVML, the library of NVIDIA's driver that knows the GPUs of this machine. A machine without the driver has no GPUs.

Only the process that has opened NVML may use it: do not use NVML in a forked process.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

SM_CLOCK, MEMORY_CLOCK = 1, 2  # NVML_CLOCK_SM and NVML_CLOCK_MEM in nvml.h


@dataclass(frozen=True, slots=True, kw_only=True)
class Nvml:
    """The open library."""

    library: Any  # the module pynvml; None if the machine has no driver, or the driver cannot be used
    problem: str = ""  # why the driver cannot be asked; empty if it can be asked, or if there is no driver

    def ask(self, function: str, *arguments: object) -> Any:
        """Return the answer of ``function`` of pynvml; ``None`` if the GPU, the driver or the machine has no answer."""
        if self.library is None:
            return None
        try:
            return getattr(self.library, function)(*arguments)
        except self.library.NVMLError:
            return None

    def gpus(self) -> list[Any]:
        """Return the handles of all GPUs, in the order of their numbers."""
        handles = (
            self.ask("nvmlDeviceGetHandleByIndex", index) for index in range(self.ask("nvmlDeviceGetCount") or 0)
        )
        return [handle for handle in handles if handle is not None]

    def gpu(self, name: str) -> Any:
        """Return the handle of a GPU or a MIG device by its number or its UUID; ``None`` if NVML does not know it."""
        if name.isdigit():
            return self.ask("nvmlDeviceGetHandleByIndex", int(name))
        return self.ask("nvmlDeviceGetHandleByUUID", name)


@cache
def open_nvml() -> Nvml:
    """Open NVML once in this process, and keep it open."""
    try:
        import pynvml  # costs 30 ms, which --help must not pay
    except ImportError:
        # The environment of an arm needs only torch and numpy.
        return Nvml(library=None, problem="the package nvidia-ml-py is not installed")
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return Nvml(library=None)
    except pynvml.NVMLError as error:
        return Nvml(library=None, problem=str(error))
    return Nvml(library=pynvml)
