"""Plants faults in the arms of a worker. Every Python whose ``PYTHONPATH`` has this directory loads this module.

``PLANTED_FAULTS`` is a JSON list of objects with ``rank``, ``arm`` and ``act``. A fault with ``size_bytes`` acts when
the arm is bound to a case of that size. A fault with ``order`` acts once for each time that a file of that name is
made. A fault with neither acts when the arm is made. A fault with ``once``, the path of a file that it creates, acts
only once. A fault with the act ``stay away`` needs no arm: the rank never joins the other ranks.
``PLANTED_SETUP_TIMEOUT_S`` is the time limit of set-up.
"""

import importlib.abc
import importlib.util
import json
import os
import pathlib
import signal
import sys
import time

FAULTS = json.loads(os.environ.get("PLANTED_FAULTS", "[]"))
SETUP_TIMEOUT_S = os.environ.get("PLANTED_SETUP_TIMEOUT_S")


def act(fault):
    if "once" in fault:
        try:
            pathlib.Path(fault["once"]).open("x").close()
        except FileExistsError:
            return
    if fault["act"] == "raise":
        raise ValueError(fault.get("text", "planted"))
    if fault["act"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault["act"] == "allocate":
        import torch

        torch.empty(2**60, dtype=torch.uint8)
    if fault["act"] == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if fault["act"] in ("hang", "stay away"):
        time.sleep(600)


def plant(arms):
    original_init, original_bind = arms.Arm.__init__, arms.Arm.bind

    def faults_of(arm, size_bytes):
        rank = arms.dist.get_rank()
        return [
            fault
            for fault in FAULTS
            if (fault["rank"], fault.get("arm")) == (rank, arm)
            and (obeyed(fault["order"], size_bytes) if "order" in fault else fault.get("size_bytes") == size_bytes)
        ]

    def init(self, name, group, device, *rest):
        original_init(self, name, group, device, *rest)
        self.planted_streams = device.streams
        for fault in faults_of(name, None):
            act(fault)

    def bind(self, case, x, y, keep=None):
        operation = original_bind(self, case, x, y, keep)
        for fault in faults_of(self.name, case.size_bytes):
            if fault["act"] == "wrong":
                return spoiled(operation, y, self.planted_streams)
            if fault["act"] == "count":
                half = x[: len(x) // 2]
                return original_bind(self, case, half, half if y is x else y[: len(y) // 2], keep)
            act(fault)
        return operation

    arms.Arm.__init__, arms.Arm.bind = init, bind


def obeyed(order, size_bytes):
    """Return whether the file ``order`` exists while an arm is bound to a case, and remove it."""
    if size_bytes is None:
        return False
    try:
        os.unlink(order)
    except FileNotFoundError:
        return False
    return True


def plant_in_set_up(process):
    process.SETUP_TIMEOUT_S = float(SETUP_TIMEOUT_S or process.SETUP_TIMEOUT_S)


def plant_in_joining(joining):
    original_join = joining.join

    def join(process_sets):
        for fault in FAULTS:
            if fault["act"] == "stay away" and fault["rank"] == int(os.environ["RANK"]):
                act(fault)
        return original_join(process_sets)

    joining.join = join


PLANTED = {
    "nccl_bench.arms.arm": plant,
    "nccl_bench.ranks.process": plant_in_set_up,
    "nccl_bench.ranks.joining": plant_in_joining,
}


def spoiled(operation, y, streams):
    """Return an operation that calls ``operation`` and then makes one element wrong."""

    def spoil():
        y.view(-1)[-1] += 1

    def spoiled_operation():
        operation()
        streams.submit(spoil)

    return spoiled_operation


class Planter(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in PLANTED:
            return None
        change = PLANTED.pop(name)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            change(module)

        spec.loader.exec_module = exec_module
        return spec


if FAULTS or SETUP_TIMEOUT_S:
    sys.meta_path.insert(0, Planter())
