"""A page in a browser, and what a person does with it: look, point, click, and press keys."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from tests.support.chromium import PATIENCE, Browser

# Key name: its code on the keyboard, its number in Windows, and the text that it types.
_KEYS = {
    "Tab": ("Tab", 9, ""),
    "Enter": ("Enter", 13, "\r"),
    "Escape": ("Escape", 27, ""),
    " ": ("Space", 32, " "),
    "End": ("End", 35, ""),
    "Home": ("Home", 36, ""),
    "ArrowLeft": ("ArrowLeft", 37, ""),
    "ArrowUp": ("ArrowUp", 38, ""),
    "ArrowRight": ("ArrowRight", 39, ""),
    "ArrowDown": ("ArrowDown", 40, ""),
}
_SHIFT = 8


class Page:
    """The page of a browser."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser

    def open(self, path: Path, *, width: int = 1280, height: int = 900, theme: str = "light") -> None:
        """Show a file in a window of ``width`` by ``height`` pixels, and forget the events of the page before."""
        self.resize(width, height)
        self.set_theme(theme)
        self.browser.events.clear()
        self.browser.call("Page.navigate", url=path.resolve().as_uri())
        self.wait_for(f"document.readyState === 'complete' && location.pathname.endsWith({json.dumps(path.name)})")

    def resize(self, width: int, height: int = 900) -> None:
        """Give the window another size, in pixels."""
        self.browser.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    def set_theme(self, theme: str) -> None:
        """Set the preference of the system: ``light`` or ``dark``."""
        self.browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])

    def evaluate(self, script: str) -> Any:
        """Return the value of a JavaScript expression, which may be a promise. Raises ``RuntimeError`` if it throws."""
        result = self.browser.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True
        )
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description") or details["text"])
        return result["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Wait until a JavaScript expression is true. Raises ``TimeoutError`` if it stays false."""
        deadline = monotonic() + PATIENCE
        while not self.evaluate(condition):
            if monotonic() > deadline:
                raise TimeoutError(f"after {PATIENCE:.0f} s this is still false: {condition}")
            sleep(0.02)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press and release a key: a name of ``_KEYS``."""
        code, number, text = _KEYS[key]
        event = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": _SHIFT if shift else 0}
        self.browser.call(
            "Input.dispatchKeyEvent",
            type="keyDown" if text else "rawKeyDown",
            **({"text": text} if text else {}),
            **event,
        )
        self.browser.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def hover(self, x: float, y: float) -> None:
        """Move the mouse to a point of the window."""
        self.browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, selector: str) -> None:
        """Scroll the first element of a CSS selector into the window, and click its middle."""
        x, y = self.middle_of(selector)
        self.hover(x, y)
        for event in ("mousePressed", "mouseReleased"):
            self.browser.call("Input.dispatchMouseEvent", type=event, x=x, y=y, button="left", clickCount=1)

    def middle_of(self, selector: str) -> tuple[float, float]:
        """Scroll the first element of a CSS selector into the window, and return its middle."""
        x, y = self.evaluate(
            f"(() => {{ const element = document.querySelector({json.dumps(selector)});"
            "element.scrollIntoView({block: 'center'}); const box = element.getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        return x, y

    def screenshot(self, path: Path) -> None:
        """Write the whole page, also what the window does not show, as a PNG file."""
        data = self.browser.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def complaints(self) -> list[str]:
        """Return the warnings and errors in the console, and the exceptions of scripts, since the page was opened."""
        self.evaluate("0")
        texts = []
        for event in self.browser.events:
            parameters = event.get("params", {})
            match event.get("method"):
                case "Runtime.consoleAPICalled" if parameters["type"] in ("warning", "error", "assert"):
                    texts.append(" ".join(str(each.get("value", each)) for each in parameters["args"]))
                case "Runtime.exceptionThrown":
                    details = parameters["exceptionDetails"]
                    texts.append(details.get("exception", {}).get("description") or details["text"])
                case "Log.entryAdded":
                    texts.append(f"{parameters['entry']['level']}: {parameters['entry']['text']}")
        return texts

    def requested(self) -> list[str]:
        """Return the addresses of all requests since the page was opened, without data inside the page itself."""
        self.evaluate("0")
        sent = [event for event in self.browser.events if event.get("method") == "Network.requestWillBeSent"]
        addresses = [event["params"]["request"]["url"] for event in sent]
        return [address for address in addresses if not address.startswith(("data:", "blob:"))]

    def download(self, directory: Path, click: str) -> Path:
        """Click the element of a CSS selector, and return the file that the browser has then written."""
        self.browser.call(
            "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(directory), eventsEnabled=True
        )
        self.click(click)
        deadline = monotonic() + PATIENCE
        while not any(
            event.get("method") == "Browser.downloadProgress" and event["params"]["state"] == "completed"
            for event in self.browser.events
        ):
            if monotonic() > deadline:
                raise TimeoutError(f"nothing was downloaded within {PATIENCE:.0f} s after a click on {click}")
            self.evaluate("0")
            sleep(0.02)
        begun = next(event for event in self.browser.events if event.get("method") == "Browser.downloadWillBegin")
        return directory / str(begun["params"]["suggestedFilename"])

    def accessible_nodes(self) -> list[dict[str, Any]]:
        """Return what a screen reader is given: the nodes of the accessibility tree, without ignored ones."""
        nodes = self.browser.call("Accessibility.getFullAXTree")["nodes"]
        return [node for node in nodes if not node.get("ignored")]


@contextmanager
def running_browser(program: str) -> Iterator[Page]:
    """Start a browser, yield its page, and end the browser."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        browser = Browser(program, Path(scratch))
        try:
            yield Page(browser)
        finally:
            browser.close()
