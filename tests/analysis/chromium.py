"""A headless Chromium that a test drives through its DevTools pipe: no port, no driver, no package.

The protocol (chromedevtools.github.io/devtools-protocol) is JSON, a NUL after each message: commands
go to the browser's file descriptor 3, answers and events come from 4.
"""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests import PATIENCE_SECONDS

FOUND = shutil.which("chromium")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


class Page:
    """One page; `complaints` and `requests` gather what it says on the console and what it loads."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive, self._rest, self._last = send, receive, b"", 0
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._session: str | None = None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")
        self.ask("Network.emulateNetworkConditions", offline=True, latency=0,
                 downloadThroughput=-1, uploadThroughput=-1)  # fmt: skip

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """A command's answer."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            answer = self._next(deadline, method)
            if answer.get("id") == self._last:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _next(self, deadline: float, method: str) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._receive], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"chromium gave no answer to {method} within {PATIENCE_SECONDS:g} s"
            read = os.read(self._receive, 2**16)
            assert read, f"chromium ended during {method}"
            self._rest += read
        line, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(line)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, event: str | None, params: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        elif event == "Log.entryAdded":
            self.complaints.append(params["entry"]["text"])
        elif event == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(params["args"]))

    def open(self, address: str) -> None:
        """Load a page and wait until its scripts have run."""
        self.ask("Page.navigate", url=address)
        self.until("location.href !== 'about:blank' && document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives."""
        answer = self.ask(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.value(f"Boolean({expression})"):
            assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:g} s: {expression}"
            time.sleep(0.02)

    def box(self, selector: str) -> dict[str, float]:
        """Where an element lies in the window, after it is scrolled into it."""
        return self.value(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'nearest'}); return e.getBoundingClientRect().toJSON(); })()"
        )

    def move(self, x: float, y: float) -> None:
        """Point at a place of the window."""
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, selector: str) -> None:
        """Click in the middle of an element."""
        box = self.box(selector)
        self.click_at(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    def click_at(self, x: float, y: float) -> None:
        """Click at a place of the window."""
        self.move(x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str, code: int) -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def size(self, width: int, height: int, *, mobile: bool = False, zoom: float = 1) -> None:
        """Size of the window in CSS pixels."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=zoom, mobile=mobile,
        )  # fmt: skip

    def media(self, scheme: str) -> None:
        """`light` or `dark`."""
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path: Path, width: int, height: int) -> None:
        """PNG of the page's upper left part, also where it goes beyond the window."""
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        answer = self.ask("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))


@contextlib.contextmanager
def chromium(profile: Path) -> Iterator[Page]:
    """A page of a browser of its own, whose processes end with the block.

    Args:
        profile: an empty folder for what the browser keeps.
    """
    assert FOUND is not None, "chromium is missing; apt-get install chromium"
    there, to_browser = os.pipe()
    from_browser, here = os.pipe()
    # The browser wants them as 3 and 4: from numbers above, so that neither is overwritten on the way.
    inside = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (there, here)]
    shell = f'exec "$0" "$@" 3<&{inside[0]} 4>&{inside[1]}'
    browser = subprocess.Popen(
        ["bash", "-c", shell, FOUND, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        pass_fds=inside, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    for end in (there, here, *inside):
        os.close(end)
    try:
        yield Page(to_browser, from_browser)
    finally:
        os.close(to_browser)  # the browser leaves when its pipe is closed
        try:
            browser.wait(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()
        os.close(from_browser)
