"""The order against a search over all legal orders; tests/experiments/order_search.py does it for more programs."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import nccl_bench.audit.order
from nccl_bench.audit.order.actions import Action
from nccl_bench.audit.order.order import Order
from nccl_bench.audit.order.races import RaceKind
from tests.support.order_actions import COLLECTIVE, CONSUMER, FORK, JOIN, PRODUCER
from tests.support.order_check import differences
from tests.support.order_mutants import MUTANTS
from tests.support.order_programs import Step, random_program
from tests.support.order_search import Search


def test_random_programs_have_the_races_that_the_search_finds() -> None:
    for seed in range(400):
        program = random_program(seed)
        assert list(differences(program, seed)) == [], (seed, program)


def test_actions_in_an_impossible_order_raise_nothing() -> None:
    for seed in range(50):
        source = random.Random(seed)
        actions = [step.action for program in range(3) for step in random_program(3 * seed + program)]
        source.shuffle(actions)
        order = Order()
        for action in actions:
            order.take(action)
            if source.random() < 0.1:
                order.forget()


def test_the_search_finds_the_races_of_a_missing_fork_and_join() -> None:
    def pairs(*actions: Action) -> dict[tuple[int, int], set[RaceKind]]:
        return Search([Step(action) for action in actions]).pairs

    assert pairs(PRODUCER, *FORK, COLLECTIVE, *JOIN, CONSUMER) == {}
    assert pairs(PRODUCER, COLLECTIVE, CONSUMER) == {(0, 1): {RaceKind.KERNELS}, (1, 2): {RaceKind.KERNELS}}


def test_a_difference_is_detected() -> None:
    program = [Step(replace(PRODUCER, work=replace(PRODUCER.work, where=0)))]
    program += [Step(action) for action in FORK]
    program += [Step(replace(COLLECTIVE, work=replace(COLLECTIVE.work, where=3)))]
    wrong = [*program[:1], *program[2:]]  # the steps are not the numbers of the work
    assert list(differences(program)) == []
    assert any(difference.startswith(("missed", "false")) for difference in differences(wrong))


def test_every_rule_that_the_experiment_leaves_out_is_a_line_of_the_code(tmp_path: Path) -> None:
    for number, mutant in enumerate(MUTANTS):
        copy = tmp_path / str(number)
        shutil.copytree(Path(nccl_bench.audit.order.__file__).parent, copy, ignore=shutil.ignore_patterns("*.pyc"))
        mutant.plant(copy)
