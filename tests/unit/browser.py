"""Headless Chromium for the tests of HTML pages, driven through its DevTools protocol."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def start_browser(profile: Path) -> Browser:
    """A browser; the test is skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium)")
    pytest.importorskip("websockets.sync.client", reason="websockets is not installed")
    return Browser(profile)


class Browser:
    """Headless Chromium, spoken to through a websocket; every event is kept."""

    def __init__(self, profile: Path) -> None:
        from websockets.sync.client import connect

        options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        options += ["--disable-background-networking", "--disable-component-update"]
        options += ["--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-port=0"]
        options += [f"--user-data-dir={profile}", "--window-size=1400,1000", "about:blank"]
        self.process = subprocess.Popen(
            [str(CHROMIUM), *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.events: list[dict[str, Any]] = []
        self.number = 0
        self.stack = contextlib.ExitStack()
        try:
            port, path = self._wait_for(profile / "DevToolsActivePort").split()
            address = f"ws://127.0.0.1:{port}{path}"
            self.socket = self.stack.enter_context(connect(address, max_size=None, proxy=None))
            targets = self.call("Target.getTargets")["targetInfos"]
            page = next(target for target in targets if target["type"] == "page")
            attached = {"targetId": page["targetId"], "flatten": True}
            self.session = self.call("Target.attachToTarget", **attached)["sessionId"]
        except BaseException:
            self.close()
            raise

    def _wait_for(self, file: Path, seconds: float = 60) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if file.is_file() and len(file.read_text().split()) == 2:
                return file.read_text()
            assert self.process.poll() is None, "the browser ended at once"
            time.sleep(0.1)
        raise TimeoutError(f"no {file.name} after {seconds} s")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command and its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if hasattr(self, "session"):
            message["sessionId"] = self.session
        self.socket.send(json.dumps(message))
        while True:
            reply = json.loads(self.socket.recv(timeout=60))
            if reply.get("id") == self.number:
                assert "error" not in reply, reply
                return reply["result"]
            self.events.append(reply)

    def open(self, url: str) -> None:
        """Load a page and wait until it is complete."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)
        end = time.monotonic() + 60
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            assert time.monotonic() < end, "the page did not load"
            self.call("Runtime.evaluate", expression="1")
            time.sleep(0.05)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def close(self) -> None:
        """End the browser that this object started."""
        self.stack.close()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
