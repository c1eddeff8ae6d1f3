"""nccl-bench: which CUDA stream a collective runs on, and what that costs."""
