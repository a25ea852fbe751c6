"""Headless Chromium that a test looks and clicks in, through the DevTools protocol."""

import asyncio
import base64
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

from tornado.websocket import websocket_connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
_PATIENCE = 60  # seconds until a test that waits for the page gives up

# A promise of a condition's value as soon as it is true; looked at again whenever a frame is drawn.
_UNTIL = """new Promise((resolve, reject) => {
  const end = Date.now() + %d;
  const look = () => {
    let found;
    try { found = %s; } catch (error) { found = null; }
    if (found) resolve(found);
    else if (Date.now() > end) reject(new Error("never came true: " + %s));
    else setTimeout(look, 50);
  };
  look();
})"""


class Browser:
    """A page in a browser of its own.

    Attributes:
        requests: addresses that were asked for.
        complaints: errors of the console, and exceptions.
    """

    def __init__(self, folder: Path):
        command = [
            CHROMIUM,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--remote-debugging-port=0",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nothing else can be reached
            f"--user-data-dir={folder / 'profile'}",
            "about:blank",
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._loop = asyncio.new_event_loop()
        self._number, self._loaded, self.requests, self.complaints = 0, False, [], []
        try:
            self._socket = self._loop.run_until_complete(self._connect(folder / "profile"))
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.send(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait(timeout=_PATIENCE)
        self._loop.close()

    def send(self, method: str, **parameters) -> dict:
        """A command of the protocol; returns its result. Events that come first are noted."""
        return self._loop.run_until_complete(self._send(method, parameters))

    def open(self, url: str, width: int, height: int = 900) -> None:
        """Load a page at a width in CSS pixels."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self._loaded = False
        found = self.send("Page.navigate", url=url)
        assert "errorText" not in found, found
        while not self._loaded:
            self._note(self._loop.run_until_complete(self._receive()))

    def run(self, script: str):
        """The value of a JavaScript expression, or of its promise."""
        found = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, condition: str):
        """The value of a JavaScript expression once it is true."""
        return self.run(_UNTIL % (1000 * _PATIENCE, condition, json.dumps(condition)))

    def click(self, element: str) -> None:
        """Click in the middle of what a JavaScript expression gives, as a mouse does."""
        place = self.until(
            f"(e => {{ e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect();"
            f" return r.width && [r.x + r.width / 2, r.y + r.height / 2]; }})({element})"
        )
        for kind in ("mousePressed", "mouseReleased"):
            given = {"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1}
            self.send("Input.dispatchMouseEvent", **given)

    def press(self, key: str, times: int = 1) -> None:
        """Press a key such as ``ArrowRight`` in the element that has the focus."""
        codes = {"ArrowRight": 39, "ArrowLeft": 37, "Home": 36, "End": 35}
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                self.send(
                    "Input.dispatchKeyEvent",
                    type=kind,
                    key=key,
                    code=key,
                    windowsVirtualKeyCode=codes[key],
                )

    def upload(self, selector: str, path: Path) -> None:
        """Choose a file in a file input."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        found = self.send("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    async def _connect(self, profile: Path):
        port = profile / "DevToolsActivePort"
        end = time.monotonic() + _PATIENCE
        while not (port.is_file() and port.read_text().count("\n")):
            assert time.monotonic() < end, "Chromium does not start"
            assert self._process.poll() is None, "Chromium ended"
            await asyncio.sleep(0.05)
        number = port.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{number}/json") as answer:
            pages = [page for page in json.load(answer) if page["type"] == "page"]
        return await websocket_connect(pages[0]["webSocketDebuggerUrl"], max_message_size=2**28)

    async def _send(self, method: str, parameters: dict) -> dict:
        self._number += 1
        number = self._number
        await self._socket.write_message(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = await self._receive()
            if message.get("id") == number:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            self._note(message)

    async def _receive(self) -> dict:
        text = await asyncio.wait_for(self._socket.read_message(), 2 * _PATIENCE)
        assert text is not None, "Chromium ended"
        return json.loads(text)

    def _note(self, event: dict) -> None:
        name, given = event.get("method"), event.get("params", {})
        self._loaded |= name == "Page.loadEventFired"
        if name == "Network.requestWillBeSent":
            self.requests.append(given["request"]["url"])
        elif name == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(given["exceptionDetails"])[:500])
        elif name == "Runtime.consoleAPICalled" and given["type"] in ("error", "assert"):
            self.complaints.append(json.dumps(given["args"])[:500])
        elif name == "Log.entryAdded" and given["entry"]["level"] == "error":
            self.complaints.append(json.dumps(given["entry"])[:500])
