"""The record that rank 0 writes during a run: lines of results, and facts that only a worker knows."""

import os
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch

from nccl_bench.bench.timing import loop_cost_us
from nccl_bench.catalog.cases import Case
from nccl_bench.errors import RecordError
from nccl_bench.records.meta import RecordedMemory
from nccl_bench.records.schema import CaseEnd, Registration, Samples, Skipped
from nccl_bench.records.store import RunStore
from nccl_bench.transports.device import Device


class Record:
    """The record of a run. Every rank has a record, but only rank 0 has a ``store`` and writes into this store.

    ``facts`` are known before the first case. ``earlier`` are the facts that earlier ranks of this run recorded.
    ``launch`` is the number of the launch that all lines belong to.
    """

    def __init__(
        self, store: RunStore | None, facts: Mapping[str, Any], earlier: Mapping[str, Any], launch: int = 1
    ) -> None:
        self._store = store
        self._launch = launch
        self._facts = dict(facts)
        # Keep the libraries of arms that are no longer measured: only the earlier facts have them.
        libraries = {library["arm"]: library for meta in (earlier, facts) for library in meta.get("libraries") or ()}
        self._facts["libraries"] = list(libraries.values())
        self._facts["process_sets"] = _merged(earlier.get("process_sets") or (), facts.get("process_sets") or ())
        self._earlier_paths: list[Mapping[str, Any]] = earlier.get("paths", [])
        self._earlier_registrations: dict[str, object] = earlier.get("registered", {})
        self._written: dict[str, object] = {}
        # Label of a case -> the shape of the product that was chosen for it. Later launches use the same product.
        self.products: dict[str, list[int]] = dict(earlier.get("products") or {})
        # (collective, arm) -> mode -> the calls that the arm makes, and their stream.
        self.paths: dict[tuple[str, str], dict[str, str]] = {}
        # Arm -> the memory of its communicator and of its calls.
        self.memory: dict[str, RecordedMemory] = {**(earlier.get("memory") or {}), **(facts.get("memory") or {})}
        # Arm -> whether the memory of the slots was registered with the arm.
        self.registrations: dict[str, Registration] = {}

    def append(self, lines: Iterable[Samples | Skipped]) -> None:
        """Write ``lines``, with the number of the launch, into the store if there is one.

        They are on the disk after ``end_case``.
        """
        if self._store is not None:
            self._store.append(*(replace(line, launch=self._launch) for line in lines))

    def end_case(self, case: Case) -> None:
        """Mark the end of ``case``, and wait until all lines are on the disk."""
        if self._store is not None:
            self._store.append(CaseEnd(case=case, launch=self._launch))
            self._store.sync()

    def update(self, **facts: object) -> None:
        """Add ``facts``. If any fact about the run has changed, write all facts."""
        self._facts |= facts
        paths = {(path.get("collective"), path.get("arm")): path for path in self._earlier_paths}
        paths |= {at: {"collective": at[0], "arm": at[1], **by_mode} for at, by_mode in self.paths.items()}
        worker = {
            **self._facts,
            "paths": list(paths.values()),
            "memory": self.memory,
            "registered": self._earlier_registrations | self.registrations,
            **({"products": self.products} if self.products else {}),
        }
        if self._store is not None and worker != self._written:
            self._store.update(worker=worker)
            # The memory and the products change in place. Without a copy, these changes would look written already.
            self._written = deepcopy(worker)


def _merged(earlier: Iterable[Mapping[str, Any]], present: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the ``present`` process sets, with the arms that only ``earlier`` ranks measured.

    Such an arm joins the present set that has another arm of its earlier set. Without such a set, it gets a set of its
    own.
    """
    merged = [{**each, "arms": list(each["arms"])} for each in present]
    measured = {arm for each in merged for arm in each["arms"]}
    for process_set in earlier:
        gone = [arm for arm in process_set["arms"] if arm not in measured]
        shared = next((each for each in merged if not {*each["arms"]}.isdisjoint(process_set["arms"])), None)
        if shared is not None:
            shared["arms"] += gone
        elif gone:
            merged.append({**process_set, "arms": gone})
    return merged


def refuse_other_libraries(facts: Mapping[str, Any], earlier: Mapping[str, Any]) -> None:
    """Raise ``RecordError`` if earlier launches of this run measured with other libraries than this process has."""
    recorded, present = (
        {
            "torch": each.get("torch"),
            "the transport": (each.get("transport") or {}).get("name"),
            "its version": (each.get("transport") or {}).get("version"),
        }
        for each in (earlier, facts)
    )
    changes = [f"{name} is {present[name]}, and was {was}" for name, was in recorded.items() if was != present[name]]
    hashes = {library["arm"]: library["sha256"] for library in facts.get("libraries") or ()}
    changes += [
        f"the file {library['path']} of the arm {library['arm']} has changed"
        for library in earlier.get("libraries") or ()
        if hashes.get(library["arm"], library["sha256"]) != library["sha256"]
    ]
    if earlier and changes:
        raise RecordError(
            f"the run was measured with other libraries: {'; '.join(changes)}. Use the same ones, or start again in "
            "another directory with --out"
        )


def describe_process(device: Device) -> dict[str, object]:
    """Return the facts about torch, the transport and the device of this process, for ``run.json``."""
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "device": device.streams.describe(),
        "transport": device.transport.describe(),
        "cpu_affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "loop_cost_us": loop_cost_us(),
    }
