"""The environment variables that configure torch's memory allocator. No torch."""

import re
from collections.abc import Mapping

# Every version of torch reads the first variable; torch 2.9 and later read the second too.
ALLOCATOR_VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
_EXPANDABLE = re.compile(r"(^|,)\s*expandable_segments\s*:\s*\w+\s*")


def expandable_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that give torch expandable segments; other settings in ``environ`` are kept.

    torch reads these variables when it allocates memory for the first time in a process.
    """
    # If both variables are set, change both: the version of torch decides which one it prefers.
    names = [name for name in ALLOCATOR_VARIABLES if environ.get(name)] or [ALLOCATOR_VARIABLES[0]]
    kept = {name: _EXPANDABLE.sub("", environ.get(name, "")).strip(", ") for name in names}
    return {name: f"{settings},expandable_segments:True".lstrip(",") for name, settings in kept.items()}
