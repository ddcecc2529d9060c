"""A headless Chromium, driven over its DevTools protocol."""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from websockets.sync.client import ClientConnection, connect

PROGRAM: Final = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
_TIMEOUT: Final = 200.0  # seconds; test machines are busy
_KEYS: Final = {"ArrowDown": 40, "ArrowUp": 38, "ArrowLeft": 37, "ArrowRight": 39, "Enter": 13, "Escape": 27, "Tab": 9}


class Page:
    """One page. `errors` lists script errors and violations of the security policy."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self.errors: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(_TIMEOUT))
            if message.get("id") == self._number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self._record(message)

    def open(self, url: str) -> None:
        """Navigate to a URL."""
        self.send("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """Evaluate an expression, awaiting promises."""
        done = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def until(self, script: str, within: float = _TIMEOUT) -> Any:
        """Wait until an expression is truthy, and return its value; True for an element. Errors count as false."""
        deadline = time.monotonic() + within
        # While the page is being drawn, elements that the script uses may be missing.
        tried = (
            f"(async () => {{ const value = await ({script}); return {{ value: value instanceof Node || value }} }})()"
            ".catch((error) => ({ threw: `${error}` }))"
        )
        while True:
            result = self.run(tried)
            if value := result.get("value"):
                return value
            reason = result.get("threw", "")
            assert time.monotonic() < deadline, (
                f"{script}: not within {within:.0f} s; {reason}; {self.errors}; {self.text()}"
            )
            time.sleep(0.1)

    def text(self, selector: str = "body") -> str:
        """Return the visible text of an element."""
        return str(self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def press(self, *keys: str) -> None:
        """Press keys one after another."""
        for key in keys:
            about: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": _KEYS.get(key, 0)}
            text = {"text": "\r" if key == "Enter" else key} if key == "Enter" or len(key) == 1 else {}
            self.send("Input.dispatchKeyEvent", type="keyDown", **about, **text)
            self.send("Input.dispatchKeyEvent", type="keyUp", **about)

    def scheme(self, name: str) -> None:
        """Whether the user prefers dark or light."""
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def picture(self, path: Path) -> None:
        """Save a screenshot as PNG."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def _record(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(params["exceptionDetails"].get("exception", params["exceptionDetails"])))
            case "Log.entryAdded" if params["entry"]["source"] in {"security", "javascript"}:
                self.errors.append(params["entry"]["text"])


@contextmanager
def browser(folder: Path, width: int = 1280, height: int = 760) -> Iterator[Page]:
    """Start a browser with one page and its profile in a folder."""
    command = [
        PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
        "--no-first-run", "--disable-background-networking", "--disable-extensions", "--remote-debugging-port=0",
        f"--user-data-dir={folder}", f"--window-size={width},{height}", "about:blank",
    ]  # fmt: skip
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=os.environ | {"HOME": str(folder)}, **quiet) as process:
        try:
            with connect(_page(folder), max_size=None, open_timeout=_TIMEOUT) as socket:
                page = Page(socket)
                page.send(
                    "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
                )
                yield page
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


def _page(folder: Path) -> str:
    """Return the DevTools websocket URL of the page."""
    file, deadline = folder / "DevToolsActivePort", time.monotonic() + _TIMEOUT
    while time.monotonic() < deadline:
        with suppress(OSError, ValueError):
            port = int(file.read_text().splitlines()[0])
            return _target(port)
        time.sleep(0.1)
    raise AssertionError(f"{PROGRAM} did not start within {_TIMEOUT:.0f} s")


def _target(port: int) -> str:
    import httpx2

    targets = httpx2.get(f"http://127.0.0.1:{port}/json/list", timeout=_TIMEOUT).json()
    return next(str(target["webSocketDebuggerUrl"]) for target in targets if target["type"] == "page")
