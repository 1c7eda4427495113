"""Headless Chromium, spoken to through a pipe in its debugging protocol: pages that are opened, used and looked at."""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from waiting import PATIENCE_S

NAMES = ("chromium", "chromium-browser", "google-chrome")


def opened(profile: Path) -> Browser:
    """A browser; the test is skipped where there is none, unless IDT_REQUIRE_BROWSER=1."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        message = f"no browser is installed ({', '.join(NAMES)})"
        pytest.fail(message) if os.environ.get("IDT_REQUIRE_BROWSER") == "1" else pytest.skip(message)
    return Browser(program, profile)


def above(least: int, handle: int) -> int:
    """The handle under a number above one."""
    higher = fcntl.fcntl(handle, fcntl.F_DUPFD_CLOEXEC, least + 1)
    os.close(handle)
    return higher


class Browser:
    """A browser with one page; a context manager."""

    def __init__(self, program: str, profile: Path) -> None:
        self._numbers = itertools.count(1)
        self._pending = b""
        self._session: str | None = None
        self.complaints: list[str] = []
        """Errors and warnings of scripts, and requests that failed or were refused."""
        self.requests: list[str] = []
        """Addresses that the page asked for, without those of data that it holds."""
        self._read, theirs_write = os.pipe()
        theirs_read, self._write = os.pipe()
        # It reads from handle 3 and writes to handle 4, which the pipes may have as their own.
        theirs_read, theirs_write = above(9, theirs_read), above(9, theirs_write)
        command = ["bash", "-c", f'exec "$0" "$@" 3<&{theirs_read} 4>&{theirs_write}', program, "--headless",
                   "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
                   f"--user-data-dir={profile}", "--hide-scrollbars", "--autoplay-policy=no-user-gesture-required"]
        self._child = subprocess.Popen(command, pass_fds=(theirs_read, theirs_write), stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL, env={**os.environ, "HOME": str(profile)})
        os.close(theirs_read)
        os.close(theirs_write)

    def __enter__(self) -> Browser:
        try:
            target = self("Target.createTarget", url="about:blank")["targetId"]
            self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self(f"{domain}.enable")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._write)  # upon which it ends
        try:
            self._child.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        os.close(self._read)

    def __call__(self, method: str, **params: Any) -> dict[str, Any]:
        """Give a command and return its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        content = json.dumps(message).encode() + b"\0"
        while content:
            content = content[os.write(self._write, content):]
        while (answer := self._next()).get("id") != number:
            self._note(answer)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, path: Path, *, width: int = 1280, height: int = 900, dark: bool = False,
             still: bool = False) -> None:
        """Open a file in a window of a size."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"}])
        self.complaints.clear()
        self.requests.clear()
        self.run("globalThis.left = true")
        self("Page.navigate", url=path.as_uri())
        self.until("!globalThis.left && document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """Return the value of an expression."""
        found = self("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script: str, seconds: float = PATIENCE_S) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.02)

    def press(self, *keys: str) -> None:
        """Press and release keys, one after the other."""
        for key in keys:
            code = {"Tab": 9, "Enter": 13, "Escape": 27, "Home": 36, "End": 35, "ArrowLeft": 37, "ArrowUp": 38,
                    "ArrowRight": 39, "ArrowDown": 40}[key]
            text = {"text": "\r"} if key == "Enter" else {}
            for kind in ("keyDown", "keyUp"):
                self("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code,
                     **(text if kind == "keyDown" else {}))

    def picture(self) -> bytes:
        """A PNG of what the window shows."""
        return base64.b64decode(self("Page.captureScreenshot", format="png")["data"])

    def _next(self, seconds: float = PATIENCE_S) -> dict[str, Any]:
        while b"\0" not in self._pending:
            assert select.select([self._read], [], [], seconds)[0], "the browser does not answer"
            content = os.read(self._read, 1 << 20)
            assert content, "the browser has ended"
            self._pending += content
        message, _, self._pending = self._pending.partition(b"\0")
        event: dict[str, Any] = json.loads(message)
        return event

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.complaints.append(json.dumps(params["args"]))
            case "Log.entryAdded":
                self.complaints.append(params["entry"]["text"])
            case "Network.loadingFailed" if not params.get("canceled"):
                self.complaints.append(params["errorText"])
            case "Network.requestWillBeSent":
                address = params["request"]["url"]
                if not address.startswith("data:"):
                    self.requests.append(address)
