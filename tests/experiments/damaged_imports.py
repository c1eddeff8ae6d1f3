"""Damage logs of nccl-tests at random, and count imports that differ from the whole log without a word.

    python -m tests.experiments.damaged_imports --examples 20000

The command takes a minute on one core. It prints each damaged log that was imported without a word about its
difference, and then exits with 1. The unit tests run a short form.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from nccl_bench.records.importers import read
from tests.support.damaged_logs import Outcome, damaged, good_logs, outcome_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=20_000, help="Damaged logs, over all whole logs together.")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logs = good_logs()
    silent: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "log"
        for name, (text, collective) in logs.items():
            path.write_text(text, encoding="utf-8")
            good = read(path, collective)
            outcomes = Counter[Outcome]()

            @seed(arguments.seed)
            @settings(
                max_examples=-(-arguments.examples // len(logs)),
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(data=st.data())
            def count(data: st.DataObject) -> None:
                log = data.draw(damaged(text))  # noqa: B023 - `count` is called before the loop goes on
                outcome = outcome_of(path, log, good, collective)  # noqa: B023
                outcomes[outcome] += 1  # noqa: B023
                if outcome is Outcome.SILENT:
                    silent.append((name, log))  # noqa: B023

            count()
            counts = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items())
            print(f"{name}: {counts}", flush=True)
    for name, log in silent:
        print(f"--- {name}, different without a word:\n{log}")
    print(f"{len(silent)} silent differences")
    sys.exit(bool(silent))


if __name__ == "__main__":
    main()
