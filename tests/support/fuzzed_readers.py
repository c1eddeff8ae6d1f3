"""The readers that are fuzzed: for each, seeds from real files, how they change, and the use of what was read."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.fuzz_changes import change_arm, change_record, change_recording, change_text
from tests.support.fuzz_seeds import (
    Files,
    arm_seeds,
    import_seeds,
    limits_seeds,
    recording_seeds,
    resumed_seeds,
    run_seeds,
    summary_seeds,
    toml_seeds,
    verification_seeds,
)
from tests.support.fuzz_uses import (
    use_arm,
    use_compared,
    use_import,
    use_limits,
    use_recording,
    use_resumed,
    use_run,
    use_summary,
    use_toml,
    use_verification,
)

# Reads the files in a directory. Reports take long, so they are made only if the last argument is true.
Use = Callable[[Path, random.Random, bool], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A reader under test."""

    seeds: Callable[[], Sequence[Files]]  # valid inputs
    change: Callable[[random.Random, str, bytes], bytes]  # changes a file, of which it gets the name
    use: Use  # reads a changed input
    share: int  # how many of a hundred inputs this reader gets


READERS: Mapping[str, Reader] = {
    "run": Reader(seeds=run_seeds, change=change_record, use=use_run, share=24),
    "resumed": Reader(seeds=resumed_seeds, change=change_record, use=use_resumed, share=8),
    "compared": Reader(seeds=run_seeds, change=change_record, use=use_compared, share=10),
    "summary": Reader(seeds=summary_seeds, change=change_text, use=use_summary, share=8),
    "import": Reader(seeds=import_seeds, change=change_text, use=use_import, share=12),
    "verification": Reader(seeds=verification_seeds, change=change_record, use=use_verification, share=14),
    "toml": Reader(seeds=toml_seeds, change=change_text, use=use_toml, share=8),
    "limits": Reader(seeds=limits_seeds, change=change_text, use=use_limits, share=4),
    "recording": Reader(seeds=recording_seeds, change=change_recording, use=use_recording, share=8),
    "arm": Reader(seeds=arm_seeds, change=change_arm, use=use_arm, share=4),
}
