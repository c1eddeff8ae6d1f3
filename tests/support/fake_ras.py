"""A server that speaks the protocol of NCCL's RAS, with the answers of NCCL 2.28.9."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# The text of NCCL 2.28.9 for two ranks of which one is stopped: after the last "nvml_dev" there is no comma.
ONE_STOPPED = """{
  "nccl_version": "2.28.9",
  "communicators_count": 1,
  "communicators": [
    {
      "hash": "0xae94423cfbb2ef4a",
      "size": 2,
      "ranks": [
        {
          "rank": 0,
          "pid": 100,
          "nvml_dev": 0,
          "status": {
            "init_state": 0
          },
          "collective_counts": {
            "AllReduce": 7
          }
        }
      ],
      "missing_ranks": [
        {
          "rank": 1,
          "pid": 101,
          "cuda_dev": 1,
          "nvml_dev": 1
          "status": {
            "unresponsive": true,
            "considered_dead": false
          }
        }
      ]
    }
  ]
}
"""


@contextmanager
def listening(port: int = 0, *, host: str = "127.0.0.1") -> Iterator[tuple[socket.socket, str]]:
    """Yield a socket that listens as one process with NCCL does, and its address. It answers nothing by itself."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind((host, port))
        server.listen()
        yield server, f"{host}:{server.getsockname()[1]}"


@contextmanager
def answering(*answers: str, port: int = 0, knows_json: bool = True) -> Iterator[tuple[list[str], str]]:
    """Answer one question with each of ``answers``. Yield the lines that clients sent, and the address."""
    lines: list[str] = []

    def serve(server: socket.socket) -> None:
        for answer in answers:
            connection, _ = server.accept()
            with connection, connection.makefile(encoding="utf-8") as received:
                for line in received:
                    lines.append(line.strip())
                    if line == "STATUS\n":
                        break
                    known = knows_json or not line.startswith("SET FORMAT")
                    reply = "SERVER PROTOCOL 2" if line.startswith("CLIENT") else "OK"
                    text = f"{reply}\n" if known else f"ERROR: Unknown command {line}"
                    connection.sendall(text.encode())
                connection.sendall(answer.encode())

    with listening(port) as (server, address):
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        yield lines, address
        thread.join(10)
        assert not thread.is_alive()
