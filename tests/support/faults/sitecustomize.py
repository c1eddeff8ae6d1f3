"""Plants faults in the arms of a worker. Every Python whose ``PYTHONPATH`` has this directory loads this module.

``PLANTED_FAULTS`` is a JSON list of objects with ``rank``, ``arm`` and ``act``. A fault with ``size_bytes`` acts when
the arm is bound to a case of that size; a fault without it acts when the arm is made.
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


def act(fault):
    if fault["act"] == "raise":
        raise ValueError("planted")
    if fault["act"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault["act"] == "allocate":
        import torch

        torch.empty(2**60, dtype=torch.uint8)
    if fault["act"] == "fill":
        from tests.support.small_disk import fill

        fill(pathlib.Path(fault["directory"]))
    if fault["act"] == "hang":
        time.sleep(600)


def plant(arms):
    original_init, original_bind = arms.Arm.__init__, arms.Arm.bind

    def faults_of(arm, size_bytes):
        rank = arms.dist.get_rank()
        return [f for f in FAULTS if (f["rank"], f["arm"], f.get("size_bytes")) == (rank, arm, size_bytes)]

    def init(self, name, group, device, *rest):
        original_init(self, name, group, device, *rest)
        self.planted_streams = device.streams
        for fault in faults_of(name, None):
            act(fault)

    def bind(self, case, x, y):
        operation = original_bind(self, case, x, y)
        for fault in faults_of(self.name, case.size_bytes):
            if fault["act"] == "wrong":
                return spoiled(operation, y, self.planted_streams)
            act(fault)
        return operation

    arms.Arm.__init__, arms.Arm.bind = init, bind


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
        if name != "nccl_bench.arms.arm":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            plant(module)

        spec.loader.exec_module = exec_module
        return spec


if FAULTS:
    sys.meta_path.insert(0, Planter())
