"""Takes the names of hosts, paths and the UUIDs of GPUs out of a record, for a report that becomes public."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nccl_bench.records.lines import Lines
from nccl_bench.records.named_hosts import hosts_in, replace_addresses, short_name
from nccl_bench.records.run import Run
from nccl_bench.records.schema import Crash, Hang, Line, Skipped

# The parts of run.json and verification.json whose texts can name a host, a path or a GPU.
_PARTS = ("command", "launch", "left_out", "environment", "worker")
# The keys, in these parts and in lines of findings, whose texts are words of this program, names of arms, or versions.
_KEPT = {
    *("name", "arm", "arms", "type", "version", "versions", "packages", "platform", "kernel", "mode"),
    *("collective", "probe", "operation", "place", "topology"),
}
# The keys of the configuration whose values are paths, and the keys of an arm in it whose values are paths.
_CONFIG_PATHS = ("nccl_library",)
ARM_PATHS = ("target", "tree", "python", "library")
# The options whose value is a path, even without a slash.
_PATH_OPTIONS = (
    *("--out", "--resume", "--workload", "--save-workload", "--limits", "--to"),
    *("--before-tree", "--after-tree", "--nccl-library"),
)
_FILE = re.compile(r"[^\s=,:]+\.(?:py|toml|csv|json|txt|log|html|so(?:\.\d+)*)")
# CUDA_VISIBLE_DEVICES can have the beginning of a UUID.
_UUID = re.compile(r"(?:GPU-|MIG-)?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})|(?:GPU|MIG)-([0-9a-f][0-9a-f-]{3,})")
# A quoted path can contain spaces.
_QUOTED_PATH = re.compile(r"(?<=['\"])~?/[^'\"\n]+(?=['\"])")
_PATH = re.compile(r"(?<![\w.:/~-])~?(?:/[\w.@%+~-]*[\w@%+~-])+/?")
# The directories of a path can contain spaces. Its last part can contain spaces only inside quotation marks. A quoted
# text has two backslashes for each backslash.
_WINDOWS_PATH = re.compile(
    r"(?<=['\"])[A-Za-z]:[\\/][^'\"\n]+(?=['\"])"
    r"|(?<!\w)[A-Za-z]:(?:\\+(?:[^\\:*?\"'<>|\n]+\\+)*[^\s\\:*?\"'<>|,;)]*|(?:/[^\s\\/:*?\"'<>|,;)]+)+)"
)
# Paths that every machine has.
_SYSTEM = re.compile(r"/(?:proc|sys)/.*|/dev/(?:shm|nvidia.*)|/etc/nccl\.conf")


@dataclass(frozen=True, slots=True)
class Aliases:
    """The names that stand for hosts, paths and GPUs. In one report the same thing always has the same name."""

    hosts: dict[str, str] = field(default_factory=dict)  # the name of a host -> its alias
    paths: dict[str, str] = field(default_factory=dict)  # a path -> its alias
    gpus: dict[str, str] = field(default_factory=dict)  # a UUID without its prefix -> its alias

    def host(self, name: str) -> str:
        """Return the alias of a host; its name with and without a domain have the same alias."""
        if name not in self.hosts:
            short = short_name(name)
            # Hosts of two domains can have one short name.
            is_other = any(known.startswith(f"{short}.") for known in self.hosts) and name != short
            new = f"host-{len(set(self.hosts.values())) + 1}"
            self.hosts[name] = new if is_other else self.hosts.get(short, new)
            self.hosts.setdefault(short, self.hosts[name])
        return self.hosts[name]

    def path(self, path: str) -> str:
        """Return the alias of a path; a file that every machine has keeps its name."""
        if _SYSTEM.fullmatch(path):
            return path
        return self.paths.setdefault(path.rstrip("/"), f"path-{len(self.paths) + 1}")

    def _gpu(self, uuid: str) -> str:
        return self.gpus.setdefault(uuid, f"gpu-{len(self.gpus) + 1}")

    def text(self, text: str) -> str:
        """Return ``text`` with an alias for every host, path and GPU in it."""
        for name in hosts_in(text):
            self.host(name)
        text = _UUID.sub(lambda match: self._gpu(match[1] or match[2]), text)
        # Known paths can be relative, or have spaces.
        for path in sorted(self.paths, key=len, reverse=True):
            text = re.sub(rf"(?<![\w./-]){re.escape(path)}(?![\w-])", self.paths[path], text)
        text = _WINDOWS_PATH.sub(lambda match: self.path(match[0].replace("\\\\", "\\")), text)
        for pattern in (_QUOTED_PATH, _PATH):
            text = pattern.sub(lambda match: self.path(match[0]), text)
        if self.hosts:
            # Replace all names at once, because the alias of one host can be the name of another host.
            names = "|".join(map(re.escape, sorted(self.hosts, key=len, reverse=True)))
            text = re.sub(rf"(?<![\w.-])({names})(?:\.[\w-]+)*(?![\w-])", lambda match: self.hosts[match[1]], text)
        return replace_addresses(text, self.host)

    def texts(self, value: Any) -> Any:
        """Return plain data with aliases in its texts and in the keys that are paths."""
        if isinstance(value, Mapping):
            return {
                (self.path(key) if os.path.isabs(key) else key): item if key in _KEPT else self.texts(item)
                for key, item in value.items()
            }
        if isinstance(value, str):
            return self.text(value)
        return [self.texts(item) for item in value] if isinstance(value, list | tuple) else value

    def meta(self, meta: Mapping[str, Any]) -> dict[str, Any]:
        """Return the content of ``run.json`` or ``verification.json`` with aliases."""
        environment = meta.get("environment") or {}
        for name in filter(None, (environment.get("hostname"), *(environment.get("hostnames") or ()))):
            self.host(str(name))
        for name in hosts_in(meta):
            self.host(name)
        config = dict(meta["config"])
        arms = [dict(arm) for arm in config.get("user_arms") or ()]
        for holder, keys in ((config, _CONFIG_PATHS), *((arm, ARM_PATHS) for arm in arms)):
            for key in keys:
                if isinstance(holder.get(key), str):
                    holder[key] = self._of_target(holder[key])
        for holder in (config, *arms):
            if holder.get("variables"):
                holder["variables"] = self.texts(holder["variables"])
        if arms:
            config["user_arms"] = arms
        if isinstance(workload := config.get("workload"), Mapping):
            # The source has a path if two files have the same name.
            sources = [self.path(name) if "/" in name else self.text(name) for name in workload.get("source") or ()]
            config["workload"] = {**self.texts(workload), "source": sources}
        changed = {part: self.texts(meta[part]) for part in _PARTS if part in meta and part != "command"}
        command = meta.get("command")
        words = {"command": list(self.words(map(str, command)))} if isinstance(command, list | tuple) else {}
        return {**meta, **changed, **words, "config": config}

    def words(self, command: Iterable[str]) -> Iterator[str]:
        """Yield the words of a command with aliases."""
        previous = ""
        for word in command:
            option, _, value = word.partition("=")
            if previous in _PATH_OPTIONS:
                yield self.path(word)
            elif option in _PATH_OPTIONS and value:
                yield f"{option}={self.path(value)}"
            else:
                for path in _paths_in(word):
                    self.path(path)
                yield self.text(word)
            previous = word

    def _of_target(self, target: str) -> str:
        """Return ``FILE.py:NAME`` or a path with aliases; a module and a built-in arm keep their names."""
        file, colon, name = target.partition(":")
        is_path = "/" in file or _FILE.fullmatch(file)
        return f"{self.path(file)}{colon}{name}" if is_path else target

    def line(self, line: Line) -> Line:
        """Return a line without samples with aliases."""
        if isinstance(line, Hang):
            call = None if line.call is None else self.text(line.call)
            return replace(line, host=self.host(line.host), call=call, ras=self.texts(line.ras))
        if isinstance(line, Crash):
            return replace(line, host=self.host(line.host), message=self.text(line.message))
        if isinstance(line, Skipped):
            return replace(line, reason=self.text(line.reason))
        return line

    def run(self, run: Run) -> Run:
        """Return ``run`` with aliases, and without its directory."""
        for line in run.others:
            if isinstance(line, Hang | Crash):
                self.host(line.host)
        for name in hosts_in([list(each.command) for each in run.resumes]):
            self.host(name)
        return replace(
            run,
            meta=self.meta(run.meta),
            lines=Lines(
                replace(run.samples, reason=run.samples.reason.changed(self.text)),
                run.lines.positions,
                {position: self.line(line) for position, line in run.lines.others.items()},
            ),
            resumes=tuple(replace(each, command=tuple(self.words(each.command))) for each in run.resumes),
            warnings=tuple(map(self.text, run.warnings)),
            directory=None,
        )


def _paths_in(word: str) -> Iterator[str]:
    """Yield the relative paths in a word such as ``mine=engines/pynccl.py:Comm,tree=../old``."""
    for piece in re.split("[=,:]", word):
        if ("/" in piece and "://" not in word) or _FILE.fullmatch(piece):
            yield piece
