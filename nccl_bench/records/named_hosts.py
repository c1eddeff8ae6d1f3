"""Finds names of hosts in recorded settings and commands, and addresses in texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv6Address
from typing import Any

from nccl_bench.safety.secrets import SET

# The variables, options and fields whose value is a host, such as MASTER_ADDR, NCCL_COMM_ID and --rdzv-endpoint.
_HOLDS_HOST = re.compile(r"(?i)(?:\w+_)?(?:addr|host|hostid|hostname|comm_id|endpoint)")
_ASSIGNED = re.compile(r"(?:\b([A-Za-z_]\w*)=|(?<![\w-])--([\w-]+)[= ])(?=([^,=\s'\"]*))")
# HOST, HOST:PORT or an address with a scheme.
_NAME = re.compile(r"(?:\w+://)?(\w[\w.-]*?)\.?(?::\d*)?")
# The endings of source files. In an error, the number of a line can follow the name of such a file, like a port.
_FILES = "".join(rf"(?<!\.{ending})" for ending in ("py", "pyx", "c", "cc", "cu", "cpp", "h", "hpp", "cuh", "so"))
# How errors of torch, NCCL and ssh name a host. If only a port shows that a word is a host, the word must have a digit,
# a dot or a hyphen.
_IN_ERRORS = re.compile(
    r"(?<=://)(?:[^\s/@]*@)?([A-Za-z][\w.-]*):\d"
    r"|\[([A-Za-z][\w.-]*)\]:\d"
    r"|address of \(([A-Za-z][\w.-]*), \d"
    r"|\bhost(?:name)? ['\"]?(?=[A-Za-z.-]*\d)([A-Za-z][\w.-]*)"
    r"|(?<![\w./-])([A-Za-z][\w.-]*):\d+:\d+ \[\d+\] NCCL "
    rf"|(?<![\w./:-])(?=[A-Za-z]*[\d.-])([A-Za-z][\w.-]*){_FILES}:\d{{4,5}}(?![\w:.])"
)
# Words that name no host: a name that every machine has, the mark for a value that is not recorded, and placeholders in
# commands to type.
_NO_HOST = ("localhost", SET, "HOST", "ADDRESS", "VALUE")
_IPV4 = re.compile(r"(?<![\w.])(?!127\.)\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\w)")
# A port or a colon can follow.
_IPV6 = re.compile(
    r"(?<![\w.:])(?=[\da-fA-F]*:[\da-fA-F]*:)[\da-fA-F:]+?(?:\.\d{1,3}){0,3}"
    r"(?=(?:(?<!:):\d{5})?(?:(?<!:):)?(?![\w:]))"
)


def hosts_in(value: Any) -> Iterator[str]:
    """Yield the names of hosts in options and variables of plain data, where a command is a list of words."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _named(str(key), item) if isinstance(item, str) else ()
            yield from hosts_in(item)
    elif isinstance(value, list | tuple):
        yield from hosts_in(" ".join(item for item in value if isinstance(item, str)))
        for item in value:
            yield from hosts_in(item) if not isinstance(item, str) else ()
    elif isinstance(value, str):
        for variable, option, assigned in _ASSIGNED.findall(value):
            yield from _named(variable or option.replace("-", "_"), assigned)
        for match in _IN_ERRORS.finditer(value):
            yield from _named("host", match[match.lastindex or 0].rstrip("."))


def short_name(host: str) -> str:
    """Return the name of a host without its domain; an address has no short name and stays."""
    short = host.partition(".")[0]
    return short if re.search("[A-Za-z]", short) and ":" not in host else host


def replace_addresses(text: str, alias: Callable[[str], str]) -> str:
    """Return ``text`` with ``alias`` of each IPv4 and IPv6 address in it, except addresses that every machine has."""
    text = _IPV6.sub(lambda match: alias(match[0]) if _is_foreign(match[0]) else match[0], text)
    return _IPV4.sub(lambda match: alias(match[0]), text)


def _named(key: str, value: str) -> Iterator[str]:
    match = _NAME.fullmatch(value) if _HOLDS_HOST.fullmatch(key) else None
    # A name has a letter. A text without a letter is a number or an address.
    if match and re.search("[A-Za-z]", match[1]) and short_name(match[1]) not in _NO_HOST:
        yield match[1]


def _is_foreign(text: str) -> bool:
    try:
        address = IPv6Address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)
