"""A headless Chromium for tests: it opens a page, evaluates expressions in it, and collects the errors there.

The test and Chromium communicate through pipes (the DevTools protocol, one JSON object ended by a zero byte), so only
Chromium and Python are needed.
"""
import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find():
    """The path of a Chromium that starts, or None."""
    for path in filter(None, map(shutil.which, NAMES)):
        try:
            if subprocess.run([path, "--version"], capture_output=True, timeout=60, check=False).returncode == 0:
                return path
        except (OSError, subprocess.TimeoutExpired):
            pass
    return None


class Browser:
    """One page. `faults` are its console errors and warnings, exceptions, and requests that failed; `requests` all URLs
    that it asked for."""

    def __init__(self, chromium, width=1280, height=900, dark=False, phone=False):
        self.profile = tempfile.mkdtemp(prefix="spikefloss_browser_")
        read_end, self.to_browser = os.pipe()
        self.from_browser, write_end = os.pipe()

        def place_pipes():  # where Chromium looks for them
            read_copy, write_copy = os.dup(read_end), os.dup(write_end)
            os.dup2(read_copy, 3)
            os.dup2(write_copy, 4)

        self.process = subprocess.Popen(
            [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
             f"--user-data-dir={self.profile}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False,
            preexec_fn=place_pipes, start_new_session=True)
        os.close(read_end)
        os.close(write_end)
        self.buffer, self.number, self.session = b"", 0, None
        self.faults, self.requests, self.loaded = [], [], False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def close(self):
        try:
            os.killpg(self.process.pid, 9)
        except ProcessLookupError:
            pass
        self.process.wait()
        os.close(self.to_browser)
        os.close(self.from_browser)
        shutil.rmtree(self.profile, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _receive(self, limit):
        """The next message, or None after `limit` seconds."""
        end = time.monotonic() + limit
        while b"\0" not in self.buffer:
            if not select.select([self.from_browser], [], [], max(0, end - time.monotonic()))[0]:
                return None
            piece = os.read(self.from_browser, 1 << 20)
            if not piece:
                raise AssertionError("Chromium has ended")
            self.buffer += piece
        text, self.buffer = self.buffer.split(b"\0", 1)
        message = json.loads(text)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method, params):
        if method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.faults.append(f"console.{params['type']}: {[a.get('value') for a in params['args']]}")
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.faults.append(f"exception: {details.get('exception', {}).get('description', details['text'])}")
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.faults.append(f"{params['entry']['level']}: {params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Page.loadEventFired":
            self.loaded = True

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + 60
        while time.monotonic() < end:
            answer = self._receive(end - time.monotonic())
            if answer and answer.get("id") == self.number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return answer["result"]
        raise AssertionError(f"Chromium did not answer {method} within 60 s")

    def open(self, url):
        self.loaded = False
        self.call("Page.navigate", url=str(url))
        end = time.monotonic() + 60
        while not self.loaded and time.monotonic() < end:
            self._receive(end - time.monotonic())
        if not self.loaded:
            raise AssertionError(f"{url} was not loaded within 60 s")

    def value(self, expression):
        """The value of a JavaScript expression, as a Python value."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise AssertionError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait_for(self, expression, limit=60):
        end = time.monotonic() + limit
        while not self.value(expression):
            if time.monotonic() > end:
                raise AssertionError(f"not true after {limit} s: {expression}")
            self._receive(0.2)

    def picture(self, path):
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))
