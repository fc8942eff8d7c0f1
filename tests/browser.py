"""A headless Chromium that tells what a page does: driven over two pipes with its DevTools protocol, without any library."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-pipe")
#: Draws WebGL without a graphics card.
WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")


class Navigated(Exception):
    """The page went elsewhere while it was asked."""


class Browser:
    """A browser with one page; ``told`` is what the page and the browser had to say on the console."""

    def __init__(self, folder: Path, width: int = 1400, height: int = 1000) -> None:
        program = next((path for name in NAMES if (path := shutil.which(name))), None)
        if program is None:
            pytest.skip("there is no chromium on this machine")
        (read_there, self.write), (self.read, write_there) = os.pipe(), os.pipe()
        options = [*OPTIONS, *WEBGL, f"--window-size={width},{height}", f"--user-data-dir={folder / 'browser'}"]

        def pipes() -> None:  # the numbers that the browser expects
            os.dup2(os.dup(read_there), 3)
            os.dup2(write_there, 4)

        nothing = subprocess.DEVNULL
        command = [program, *options, "about:blank"]
        self.process = subprocess.Popen(command, close_fds=False, preexec_fn=pipes, stdout=nothing, stderr=nothing)
        os.close(read_there)
        os.close(write_there)
        self.number, self.session, self.rest, self.told, self.loaded = 0, None, b"", [], set()
        targets = self.ask("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        self.session = self.ask("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")
        self.ask("Page.setLifecycleEventsEnabled", enabled=True)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.read)
        os.close(self.write)

    def ask(self, method: str, **parameters: object) -> dict:
        """Send a command, and return its result.

        :raises Navigated: if the page was loaded again meanwhile.
        """
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while (answer := self.next()).get("id") != self.number:
            pass
        if "navigated" in answer.get("error", {}).get("message", ""):
            raise Navigated(method)
        assert "error" not in answer, answer
        return answer["result"]

    def next(self) -> dict:
        """Return the next message, of which what the page says is kept."""
        while b"\0" not in self.rest:
            part = os.read(self.read, 2**16)
            assert part, "the browser is gone"
            self.rest += part
        text, _, self.rest = self.rest.partition(b"\0")
        message = json.loads(text)
        method, parameters = message.get("method", ""), message.get("params", {})
        if method == "Page.lifecycleEvent" and parameters["name"] == "load":
            self.loaded.add(parameters["loaderId"])
        elif method == "Runtime.consoleAPICalled":
            words = " ".join(str(one.get("value", one.get("description"))) for one in parameters["args"])
            self.told.append((parameters["type"], words))
        elif method == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.told.append(("exception", details.get("exception", {}).get("description", details["text"])))
        elif method == "Log.entryAdded":
            self.told.append((parameters["entry"]["level"], parameters["entry"]["text"]))
        return message

    def open(self, page: Path) -> None:
        """Load a page of a file, and wait until all of it is there."""
        loading = self.ask("Page.navigate", url=page.absolute().as_uri())["loaderId"]
        while loading not in self.loaded:  # another page may load itself again at this moment
            self.next()

    def run(self, script: str) -> object:
        """Return what an expression of JavaScript comes to, promises awaited."""
        answer = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, path: Path, width: int, whole: bool = True) -> None:
        """Write a picture of the page at a width in pixels."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=1000, deviceScaleFactor=1, mobile=width < 600)
        picture = self.ask("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(picture["data"]))

    def pdf(self, path: Path) -> None:
        """Print the page."""
        printed = self.ask("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        path.write_bytes(base64.b64decode(printed["data"]))
