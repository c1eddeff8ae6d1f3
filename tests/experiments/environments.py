"""Try nccl-bench with other versions of torch: the unit tests, a run and a verification with each interpreter.

    python -m tests.experiments.environments /envs/torch-2.5/bin/python /envs/torch-2.9/bin/python

Each interpreter needs Python 3.11 or later, the torch to try, and the dependencies of nccl-bench and of its unit tests:
pytest, pytest-timeout, pytest-xdist and hypothesis. Nothing is installed there. With two or more interpreters, one run
compares all of them. Every step prints its last line and its exit code. The exit code is 1 if a step failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
_VERSIONS = "import sys, numpy, torch; print(f'Python {sys.version.split()[0]}, torch {torch.__version__}, '"
_VERSIONS += "f'numpy {numpy.__version__}')"
_CPU = ("--device", "cpu", "--nproc", "2")
_SMALL = ("--sizes", "8,64K", "--timing", "eager,gated", "--rounds", "3", "--max-rounds", "3")


def try_step(title: str, command: list[str], scratch: Path) -> bool:
    """Run ``command``, print its title, exit code and last line, and return whether it ended with 0."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.run(command, cwd=scratch, env=environment, capture_output=True, text=True, check=False)
    lines = (process.stdout.strip() or process.stderr.strip()).splitlines() or [""]
    print(f"  {title}: exit code {process.returncode}; {lines[-1]}", flush=True)
    return process.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", nargs="+", help="An interpreter with the torch to try.")
    interpreters = parser.parse_args().python
    passed = True
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        for python in interpreters:
            print(python, flush=True)
            tool = [python, "-m", "nccl_bench"]
            unit = [python, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(ROOT / "tests" / "unit")]
            steps = {
                "versions": [python, "-c", _VERSIONS],
                "unit tests": unit,
                "run": [*tool, "run", *_CPU, *_SMALL, "--arms", "stream-free,dedicated-stream,torch"],
                "verify": [*tool, "verify", *_CPU, "--arms", "stream-free,dedicated-stream,torch"],
            }
            for title, command in steps.items():
                passed &= try_step(title, command, scratch)
        if len(interpreters) > 1:
            arms = [f"--arm=python-{number}=torch,python={each}" for number, each in enumerate(interpreters, start=1)]
            tool = [sys.executable, "-m", "nccl_bench", "run", *_CPU, *_SMALL, "--arms", "torch", *arms]
            passed &= try_step("one run of all", tool, scratch)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
