"""The ratio of the case that was measured last, read from the record while the run goes on."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from nccl_bench.analysis.statistics import paired_ratios
from nccl_bench.analysis.wording import format_ratio
from nccl_bench.config.sizes import format_size
from nccl_bench.records.schema import CaseEnd, Samples


class LastRatio:
    """The ratio of ``candidate`` to ``baseline`` in the last case of a file of samples, in the first timing of both."""

    def __init__(self, samples: Path, baseline: str, candidate: str) -> None:
        self._samples = samples
        self._arms = (candidate, baseline)
        self._offset = 0
        # Timing -> arm -> round -> microseconds, of the case that is being measured.
        self._times_us: dict[str, dict[str, Mapping[int, float]]] = {}
        self._text = ""

    def read(self) -> str:
        """Return the size, the timing and the ratio, for example ``128K eager 0.87x``; empty before the first ratio.

        This reads what was appended to the file since the last call. A missing file counts as empty.
        """
        if self._samples.exists():
            with self._samples.open("rb") as file:
                file.seek(self._offset)
                complete, newline, _partial = file.read().rpartition(b"\n")
            self._offset += len(complete) + len(newline)
            for line in complete.splitlines():
                self._add(json.loads(line))
        return self._text

    def _add(self, line: Mapping[str, Any]) -> None:
        if line["kind"] == Samples.kind and line["arm"] in self._arms:
            times_us = dict(zip(line["rounds"], line["samples_us"], strict=True))
            self._times_us.setdefault(line["timing"], {})[line["arm"]] = times_us
        elif line["kind"] == CaseEnd.kind:
            for timing, of_timing in self._times_us.items():
                ratios = paired_ratios(*(of_timing.get(arm, {}) for arm in self._arms))
                if ratios:
                    size = format_size(line["case"]["size_bytes"])
                    self._text = f"{size} {timing} {format_ratio(median(ratios))}"
                    break
            self._times_us = {}
