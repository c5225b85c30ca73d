"""A real browser without a window, driven through its DevTools protocol; for tests of pages."""

import asyncio
import json
import shutil
import subprocess
import time
from contextlib import contextmanager
from urllib.request import urlopen

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--window-size=1100,900",
]

WIDTHS = {1200: 900, 420: 800}  # of a screen and its height, pixels


class Tab:
    """One page: what it requested, its dialogs, and the means to point, type and ask."""

    def __init__(self, loop, socket):
        self.loop, self.socket, self.number, self.events = loop, socket, 0, []

    def send(self, method, **parameters):
        """The result of one command; events that come meanwhile are kept."""
        self.number += 1
        return self.loop.run_until_complete(asyncio.wait_for(self._sent(method, parameters), 60))

    async def _sent(self, method, parameters):
        await self.socket.write_message(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            found = json.loads(await self.socket.read_message())
            if found.get("id") == self.number:
                assert "error" not in found, found
                return found["result"]
            self.events.append(found)

    def open(self, path):
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{domain}.enable")
        self.send("Page.navigate", url=path.as_uri())
        deadline = time.monotonic() + 60
        while self.ask("document.readyState") != "complete":
            assert time.monotonic() < deadline

    def ask(self, expression):
        """The value of an expression, as JSON knows it."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key):
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=KEYS[key])

    def point(self, selector, click=False):
        where = f"JSON.stringify(document.querySelector({selector!r}).getBoundingClientRect())"
        box = json.loads(self.ask(where))
        at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        self.send("Input.dispatchMouseEvent", type="mouseMoved", **at)
        if click:
            for kind in ("mousePressed", "mouseReleased"):
                self.send("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)

    def requested(self):
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    def complaints(self):
        """Dialogs, errors and refusals."""
        kinds = ("Page.javascriptDialogOpening", "Runtime.exceptionThrown", "Log.entryAdded")
        return [event for event in self.events if event["method"] in kinds]


KEYS = {"Tab": 9, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowRight": 39, "Enter": 13}


def resize(tab, width, dark=False):
    """A screen of that width, with everything that folds open."""
    tab.send("Emulation.setDeviceMetricsOverride", width=width, height=WIDTHS[width], deviceScaleFactor=1, mobile=False)
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    tab.send("Emulation.setEmulatedMedia", features=scheme)
    tab.ask("for (const each of document.querySelectorAll('details')) each.open = true")


@contextmanager
def browser(folder):
    """A tab of a browser whose profile lies in `folder`."""
    from tornado.websocket import websocket_connect

    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    loop = asyncio.new_event_loop()
    try:
        told, deadline = folder / "DevToolsActivePort", time.monotonic() + 60
        while not (told.is_file() and told.read_text().strip()):
            assert process.poll() is None, "the browser did not start"
            assert time.monotonic() < deadline, "the browser did not answer"
            time.sleep(0.05)
        port = told.read_text().split()[0]
        with urlopen(f"http://127.0.0.1:{port}/json") as answer:
            address = next(each for each in json.load(answer) if each["type"] == "page")["webSocketDebuggerUrl"]

        async def connect():
            return await websocket_connect(address, max_message_size=2**26)

        socket = loop.run_until_complete(connect())
        yield Tab(loop, socket)
        socket.close()
    finally:
        process.terminate()
        process.wait(20)
        loop.run_until_complete(asyncio.sleep(0.1))
        loop.close()
