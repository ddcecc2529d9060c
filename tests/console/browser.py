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
_PATIENCE: Final = 200.0  # seconds; machines that test are busy
_KEYS: Final = {"ArrowDown": 40, "ArrowUp": 38, "ArrowLeft": 37, "ArrowRight": 39, "Enter": 13, "Escape": 27, "Tab": 9}


class Page:
    """One page. What its scripts throw, and what its security policy forbids, is in `wrong`."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self.wrong: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What the browser answers."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(_PATIENCE))
            if message.get("id") == self._number:
                assert "error" not in message, message
                found: dict[str, Any] = message["result"]
                return found
            self._noted(message)

    def open(self, url: str) -> None:
        """Goes to an address."""
        self.send("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of an expression, awaited."""
        done = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def until(self, script: str, within: float = _PATIENCE) -> Any:
        """The first value of an expression that is true; true for an element. One that throws is not true yet."""
        deadline = time.monotonic() + within
        # A page that is being drawn lacks what the script looks into.
        tried = (
            f"(async () => {{ const found = await ({script}); return {{ found: found instanceof Node || found }} }})()"
            ".catch((error) => ({ threw: `${error}` }))"
        )
        while True:
            seen = self.run(tried)
            if found := seen.get("found"):
                return found
            why = seen.get("threw", "")
            assert time.monotonic() < deadline, (
                f"{script}: not within {within:.0f} s; {why}; {self.wrong}; {self.text()}"
            )
            time.sleep(0.1)

    def text(self, selector: str = "body") -> str:
        """The words that are shown in an element."""
        return str(self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def press(self, *keys: str) -> None:
        """Keys, one after the other."""
        for key in keys:
            about: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": _KEYS.get(key, 0)}
            text = {"text": "\r" if key == "Enter" else key} if key == "Enter" or len(key) == 1 else {}
            self.send("Input.dispatchKeyEvent", type="keyDown", **about, **text)
            self.send("Input.dispatchKeyEvent", type="keyUp", **about)

    def scheme(self, name: str) -> None:
        """Whether the user prefers dark or light."""
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def picture(self, path: Path) -> None:
        """A PNG of what is shown."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def _noted(self, message: dict[str, Any]) -> None:
        about = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.wrong.append(json.dumps(about["exceptionDetails"].get("exception", about["exceptionDetails"])))
            case "Log.entryAdded" if about["entry"]["source"] in {"security", "javascript"}:
                self.wrong.append(about["entry"]["text"])


@contextmanager
def browser(folder: Path, width: int = 1280, height: int = 760) -> Iterator[Page]:
    """A browser with one page, its profile in a folder."""
    words = [
        PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
        "--no-first-run", "--disable-background-networking", "--disable-extensions", "--remote-debugging-port=0",
        f"--user-data-dir={folder}", f"--window-size={width},{height}", "about:blank",
    ]  # fmt: skip
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(words, env=os.environ | {"HOME": str(folder)}, **quiet) as process:
        try:
            with connect(_page(folder), max_size=None, open_timeout=_PATIENCE) as socket:
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
    """Where the page is driven."""
    file, deadline = folder / "DevToolsActivePort", time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        with suppress(OSError, ValueError):
            port = int(file.read_text().splitlines()[0])
            return _target(port)
        time.sleep(0.1)
    raise AssertionError(f"{PROGRAM} did not start within {_PATIENCE:.0f} s")


def _target(port: int) -> str:
    import httpx2

    targets = httpx2.get(f"http://127.0.0.1:{port}/json/list", timeout=_PATIENCE).json()
    return next(str(found["webSocketDebuggerUrl"]) for found in targets if found["type"] == "page")
