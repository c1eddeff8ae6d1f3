from __future__ import annotations

from functools import cache

import typer.main
from hypothesis import HealthCheck, settings

# A busy machine is slow, and no example fails for that.
settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")
# Typer builds a new parser for every call, which takes longer than most of the commands that tests call.
typer.main.get_command = cache(typer.main.get_command)
