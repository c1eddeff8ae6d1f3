"""Chromium without a window, controlled by the DevTools protocol over two pipes.

The protocol needs no package: a message is JSON that ends in a zero byte. Chromium reads messages from its file
descriptor 3 and writes to 4. https://chromedevtools.github.io/devtools-protocol/ describes all methods and events.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

# The longest time that an answer or a condition may take, in seconds. A loaded machine is slow.
PATIENCE = 30.0
_READS = 1 << 16
_OPTIONS = (
    "--headless=new",
    "--remote-debugging-pipe",
    # A container has no other sandbox to offer, and root may not use Chromium's own.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    # Chromium itself then asks nobody for anything.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--force-device-scale-factor=1",
    "--hide-scrollbars",
    "about:blank",
)


def find_chromium() -> str | None:
    """Return the path of Chromium or Chrome; None if there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next(filter(None, map(shutil.which, names)), None)


class Browser:
    """A running browser with one page."""

    def __init__(self, program: str, profile: Path) -> None:
        to_browser, self._write = _pipe()
        self._read, from_browser = _pipe()
        self.pid = os.posix_spawn(
            program,
            [program, f"--user-data-dir={profile}", *_OPTIONS],
            {**os.environ, "HOME": str(profile)},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, to_browser, 3),
                (os.POSIX_SPAWN_DUP2, from_browser, 4),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, str(profile / "stderr"), os.O_WRONLY | os.O_CREAT, 0o644),
            ],
            setsid=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer = b""
        self._sent = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []  # what the browser reported, in order
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol, and return its result. Raises ``RuntimeError`` if it fails."""
        self._sent += 1
        message: dict[str, Any] = {"id": self._sent, "method": method, "params": parameters}
        if self._session and not method.startswith(("Browser.", "Target.")):
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = monotonic() + PATIENCE
        while True:
            answer = self._receive(deadline - monotonic(), method)
            if answer.get("id") == self._sent:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _receive(self, seconds: float, method: str) -> dict[str, Any]:
        deadline = monotonic() + seconds
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], max(0.0, deadline - monotonic()))[0]:
                raise TimeoutError(f"the browser did not answer {method} within {PATIENCE:.0f} s")
            received = os.read(self._read, _READS)
            if not received:
                raise RuntimeError("the browser has ended")
            self._buffer += received
        text, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(text)
        return message

    def close(self) -> None:
        """End the browser and all its processes."""
        with suppress(OSError, RuntimeError):
            self.call("Browser.close")
        os.close(self._write)
        os.close(self._read)
        deadline = monotonic() + 5
        while os.waitpid(self.pid, os.WNOHANG) == (0, 0):
            if monotonic() > deadline:
                os.killpg(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                break
            sleep(0.02)


def _pipe() -> tuple[int, int]:
    """Return a pipe whose file descriptors lie above 9, so that none of them is 3 or 4."""
    ends = os.pipe()
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return moved[0], moved[1]
