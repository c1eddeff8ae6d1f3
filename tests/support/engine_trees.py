"""Source trees with a package ``engine``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

ENGINE = {
    "engine/__init__.py": "",
    "engine/name.py": "NAME = '{name}'",
    "engine/comm.py": """
from engine.name import NAME
from . import name as module
import engine.name
class Comm:
    def early(self): return NAME, module.NAME, engine.name.NAME
    def late(self):
        from engine import late
        from . import late as relative
        from .late import NAME
        import engine.late
        import engine.late as renamed
        return late.NAME, relative.NAME, NAME, engine.late.NAME, renamed.NAME
""",
    "engine/late.py": "from .name import NAME",
}


def write(root: Path, files: Mapping[str, str], name: str = "") -> Path:
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("{name}", name))
    return root
