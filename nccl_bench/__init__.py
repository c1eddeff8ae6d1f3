"""nccl-bench: which CUDA stream a collective runs on, and what that costs."""

__version__ = "0.1.0"
