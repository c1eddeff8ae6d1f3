"""Keeps secrets out of records and messages: values of variables outside the catalog, and texts like credentials.

No torch.
"""

import json
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from urllib.parse import quote, unquote, urlsplit

from nccl_bench.catalog.arms import ARMS
from nccl_bench.catalog.collectives import COLLECTIVES
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.variables import KNOWN_VARIABLES, RECORDED_VARIABLES, SETTING_PREFIXES

# Stands for a value that is not recorded.
SET = "set"
# Stands for a part of a text that looks like a credential.
MASK = "***"
# The beginnings of tokens of GitHub, GitLab, Hugging Face, OpenAI, Slack, npm and PyPI.
_TOKENS = (
    *("ghp_", "gho_", "ghs_", "ghu_", "ghr_", "github_pat_", "glpat-", "hf_", "sk-"),
    *("xoxa-", "xoxb-", "xoxp-", "xoxr-", "xoxs-", "npm_", "pypi-"),
)
# Words and a pattern. Every match of the pattern contains one of the words. For speed, a text without any of the words
# is not searched. The mask does not replace the first group of the pattern.
_CREDENTIALS = tuple(
    (words, re.compile(pattern))
    for words, pattern in (
        (
            ("PRIVATE KEY-----",),
            r"()-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
        ),
        # The user and the password in an address.
        (("://",), r"(://)[^/\s@'\"]+(?=@)"),
        # An address that was treated as a path: its two slashes have become one.
        ((":/",), r"(?i)(\b[a-z]{2,}:/)[^/\s@'\":]+:[^/\s@'\"]+(?=@)"),
        (_TOKENS, rf"()\b(?:{'|'.join(_TOKENS)})[A-Za-z0-9_-]{{12,}}"),
        # Keys of AWS and Google, and JSON web tokens.
        (("AKIA", "ASIA"), r"()\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
        (("AIza",), r"()\bAIza[A-Za-z0-9_-]{30,}"),
        # Only at the start of a word. Otherwise every hyphen in a word of a million characters starts a new search.
        (("eyJ",), r"()(?<![\w-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_.-]{8,}"),
        (("Bearer ",), r"(Bearer )[^\s'\"]{8,}"),
        ((": Basic ",), r"(: Basic )[A-Za-z0-9+/=]{8,}"),
        # Do not match a mask, or a word that already replaces a value.
        (
            ("=",),
            r"(?i)((?:token|secret|password|passwd|api_?key|access_key)=)(?!\*\*\*|set\b|VALUE\b|\[value )"
            r"[^\s&,;'\")]*[a-z_-][^\s&,;'\")]*",
        ),
    )
)
_SOUNDS_SECRET = re.compile(r"TOKEN|SECRET|PASS|KEY|CREDENTIAL|AUTH|COOKIE|JWT")
# The lengths of the shortest value that is masked: in general, and for a variable whose name sounds secret. A shorter
# value can be a word or a number that many texts contain.
_SHORTEST, _SHORTEST_SECRET = 8, 4
# Variables whose values are not masked: every user has them, or messages about ranks contain their values.
_ORDINARY = {
    *("HOME", "PWD", "OLDPWD", "PATH", "SHELL", "USER", "LOGNAME", "USERNAME", "HOSTNAME", "HOST", "TMPDIR", "_"),
    *("LANG", "LANGUAGE", "TERM", "COLORTERM", "TZ", "MASTER_ADDR", "MASTER_PORT"),
}
# NAME=VALUE at the start of an argument, or after a comma.
_ASSIGNMENT = re.compile(r"(?:^|,|=)([A-Z][A-Z0-9_]*)=(.*?)(?=,[A-Za-z_]+=|$)", re.DOTALL)
# The variables that this process sets for ranks. They are not always in its own environment.
_given: dict[str, str] = {}


def remember(variables: Mapping[str, str]) -> None:
    """Mask the values of ``variables`` in every later message of this process."""
    _given.update(variables)


def recordable_value(name: str, value: str) -> str:
    """Return ``value`` if the variable ``name`` is known and the value looks like no credential; else ``SET``."""
    return value if name.strip() in KNOWN_VARIABLES and without_credentials(value) == value else SET


def recordable(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the user gave, with the values that may be recorded."""
    return {name: recordable_value(name, value) for name, value in variables.items()}


def as_typed(value: str) -> str:
    """Return ``value`` for use in a command to copy; return a placeholder if the value was not recorded."""
    return "VALUE" if value == SET else value


def recordable_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of NCCL, torch and CUDA in ``environ``, with the values that may be recorded.

    The result also has each variable that only looks like a setting of NCCL, without the value.
    """
    return {
        name: recordable_value(name, value)
        for name, value in environ.items()
        if name.strip() in RECORDED_VARIABLES or name.startswith(SETTING_PREFIXES)
    }


def without_credentials(text: str) -> str:
    """Return ``text`` with a mask for each part that looks like a credential."""
    for words, pattern in _CREDENTIALS:
        if any(word in text for word in words):
            text = pattern.sub(rf"\g<1>{MASK}", text)
    return text


def masked(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return ``text`` without the values of variables outside the catalog, and without credentials.

    The name of a variable stands for its value, so that the text can still be understood.
    """
    names: dict[str, str] = {}
    for name, value in _secrets(environ):
        quoted = quote(value, safe="", errors="surrogateescape")
        for written in (value, repr(value)[1:-1], json.dumps(value)[1:-1], quoted):
            names.setdefault(written, name)
    if names:
        # A value can contain another one, so the longest is tried first.
        values = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))))
        text = values.sub(lambda match: f"[value of {names[match[0]]}]", text)
    return without_credentials(text)


def _secrets(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield pairs of a variable's name and a value that no text may contain."""
    typed = [pair for argument in sys.argv[1:] for pair in _ASSIGNMENT.findall(argument)]
    for name, value in (*environ.items(), *_given.items(), *typed):
        if name in KNOWN_VARIABLES or name in _ORDINARY or name.startswith(("LC_", "XDG_")):
            continue
        shortest = _SHORTEST_SECRET if _SOUNDS_SECRET.search(name) else _SHORTEST
        # A key can have several lines, and a text can contain only one of them.
        for part in (value, *value.splitlines(), *_of_address(value)):
            if len(part) >= shortest and not _is_ordinary(part):
                yield name, part


def _of_address(value: str) -> Iterator[str]:
    """Yield the password in an address such as ``http://user:password@proxy``."""
    try:
        password = urlsplit(value).password if "://" in value else None
    except ValueError:
        return  # no address, so it has no password
    if password:
        yield from (password, unquote(password))


def _is_ordinary(value: str) -> bool:
    is_number = value.replace(".", "").replace("-", "").isdigit()
    paths = value.split(os.pathsep)
    are_files = all(path and os.path.lexists(path) for path in paths)
    return is_number or are_files or value in (platform.node(), *ARMS, *COLLECTIVES, *DTYPES)
