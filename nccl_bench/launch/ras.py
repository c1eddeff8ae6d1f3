"""Asks NCCL what it knows about the communicators of hung ranks. NCCL calls this service RAS.

Every process with NCCL 2.24 or later listens for questions; JSON came with 2.28.7. The protocol is text, see NCCL's
src/ras/client.cc and https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/troubleshooting/ras.html.
"""

import re
import socket
import time
from collections.abc import Iterator
from typing import Any

from nccl_bench.errors import RecordError
from nccl_bench.records.decoding import parse_json

# NCCL's default for the variable NCCL_RAS_ADDR.
DEFAULT_ADDRESS = "localhost:28028"
# NCCL waits as many seconds as TIMEOUT says for ranks that do not answer, and at most 5 s longer.
_QUESTION = b"CLIENT PROTOCOL 2\nTIMEOUT 2\nSET FORMAT json\nSTATUS\n"
_ANSWER_S = 8.0
# A process that runs begins its answer within milliseconds.
_FIRST_WORD_S = 0.5
# No attempt begins later than this after the first one.
_LIMIT_S = 6.0
# The answer has about 350 bytes for each rank of each communicator.
_MOST_BYTES = 4 * 1024**2
# NCCL 2.28 leaves out a comma in the part about a rank that does not answer.
_MISSING_COMMA = re.compile(r'("nvml_dev": -?\d+)(\s+"status")')


def ask_ras(address: str, process: int) -> dict[str, Any] | None:
    """Return the JSON of NCCL's RAS about the job of ``process``; ``None`` if there is no such answer.

    ``address`` is HOST:PORT. All processes of a user on a machine can listen there, and the system chooses one of them
    for each connection. So ask again if the chosen process is stopped, or belongs to another job.
    """
    give_up = time.monotonic() + _LIMIT_S
    while time.monotonic() < give_up:
        try:
            answer = _ask(address)
        except TimeoutError:
            continue
        except (OSError, ValueError, RecordError):
            return None
        if process in _values(answer, "pid"):
            return answer
        time.sleep(_FIRST_WORD_S)
    return None


def _ask(address: str) -> dict[str, Any]:
    """Return one answer. Raises ``ValueError`` for an answer that is too long or not the expected JSON."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=_FIRST_WORD_S) as connection:
        connection.sendall(_QUESTION)
        answer = bytearray()
        while chunk := connection.recv(65536):
            answer += chunk
            if len(answer) > _MOST_BYTES:
                raise ValueError(f"the answer has more than {_MOST_BYTES} bytes")
            connection.settimeout(_ANSWER_S)
    # NCCL answers each of the first three lines of the question with one line.
    *_, text = answer.decode().split("\n", 3)
    value = parse_json(_MISSING_COMMA.sub(r"\1,\2", text))
    if not isinstance(value, dict):
        raise ValueError(f"the answer is {value!r}: it has to be an object")
    return value


def _values(value: object, key: str) -> Iterator[object]:
    """Yield every value that an object in ``value``, at any depth, has for ``key``."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from [item] if name == key else _values(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from _values(item, key)
