"""Compare the order of `audit` with a search over all legal orders of execution, for many random programs.

    python -m tests.experiments.order_search --programs 100000
    python -m tests.experiments.order_search --mutants

The first command prints each difference, and how many programs had races of which kind. It takes about three minutes on
one core. The second command leaves out one rule of the order at a time, and prints how many programs the search needs
to notice. Both end with 1 if the result is not the one that the documentation states.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.support.order_check import differences
from tests.support.order_mutants import MUTANTS, Mutant
from tests.support.order_programs import random_program
from tests.support.order_search import Search

ROOT = Path(__file__).parents[2]
NOTICED = 3  # the exit code of a search that ends at its first difference


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=100_000, help="How many programs to try. Default: 100000.")
    parser.add_argument("--first-seed", type=int, default=0, help="The seed of the first program. Default: 0.")
    parser.add_argument("--stop", action="store_true", help="Stop at the first difference, and print its seed.")
    parser.add_argument("--mutants", action="store_true", help="Leave out one rule at a time.")
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.programs)
    if arguments.mutants:
        return try_mutants(arguments.programs)
    return stop_at_first(seeds) if arguments.stop else compare(seeds)


def compare(seeds: range) -> int:
    different = 0
    kinds: Counter[str] = Counter()
    for seed in seeds:
        program = random_program(seed)
        search = Search(program)
        differing = list(differences(program, seed, search))
        different += bool(differing)
        for difference in differing:
            print(f"program {seed}: {difference}")
        races = {kind.value for kinds_of_pair in search.pairs.values() for kind in kinds_of_pair}
        kinds.update(races or {"none"})
    print(f"{different} of {len(seeds)} programs differ")
    print("programs with races: " + ", ".join(f"{kind} {count}" for kind, count in kinds.most_common()))
    return int(different > 0)


def stop_at_first(seeds: range) -> int:
    for seed in seeds:
        if any(differences(random_program(seed), seed)):
            print(seed - seeds.start + 1)
            return NOTICED
    return 0


def try_mutants(programs: int) -> int:
    missed = 0
    for mutant in MUTANTS:
        needed = programs_until_noticed(mutant, programs)
        missed += needed is None
        print(f"{mutant.name}: " + (f"noticed after {needed} programs" if needed else "NOT NOTICED"))
    print(f"{len(MUTANTS) - missed} of {len(MUTANTS)} mutants noticed")
    return int(missed > 0)


def programs_until_noticed(mutant: Mutant, programs: int) -> int | None:
    """Return how many programs it takes until the search notices a mutant; ``None`` if it does not."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory)
        shutil.copytree(ROOT / "nccl_bench" / "audit", copy / "nccl_bench" / "audit")
        shutil.copy(ROOT / "nccl_bench" / "__init__.py", copy / "nccl_bench")
        (copy / "tests").symlink_to(ROOT / "tests")
        mutant.plant(copy / "nccl_bench" / "audit" / "order")
        command = [sys.executable, "-m", "tests.experiments.order_search", "--stop", "--programs", str(programs)]
        process = subprocess.run(
            command, cwd=copy, env={"PYTHONPATH": str(copy)}, capture_output=True, text=True, check=False
        )
        if process.returncode not in (0, NOTICED):
            raise RuntimeError(f"{mutant.name}: {process.stderr}")
        return int(process.stdout) if process.returncode == NOTICED else None


if __name__ == "__main__":
    raise SystemExit(main())
