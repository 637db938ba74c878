"""A real server on data of its own, and a real Chromium: what a person meets.

Without Chromium these tests say so and are left out, except in CI, where nothing may be left out.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
# The headless shell is the same Chromium without its windows, which nobody would look at: a quarter less work a page.
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium-headless-shell") or "/usr/bin/chromium"
# The sandbox needs rights that containers lack; the rest keeps the browser from calling home during a test.
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
START_S = 90.0
STOP_S = 20.0
PHONE = (390, 844)
DESKTOP = (1280, 860)
SHOTS = ROOT / "build" / "screens"


def free_port() -> int:
    """Return a port nobody listens on right now."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Market:
    """A demo market in a process of its own."""

    def __init__(self, folder: Path, port: int | None = None):
        self.folder = folder
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings: dict[str, str] = {}  # of its environment, on top of ours
        self.speed = 0  # times life; 0: as the demo runs for people
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it trades."""
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {key: value for key, value in os.environ.items() if key not in ("DATABASE_URL", "SUNLEDGER_DATA")}
        environment |= self.settings
        command = [sys.executable, "manage.py", "demo", "--port", str(self.port), "--data", str(self.folder / "data")]
        command += ["--speed", str(self.speed)] if self.speed else []
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/healthz", timeout=2).status_code == 200:
                    return
            time.sleep(0.2)
        raise RuntimeError(f"the demo did not start:\n{self._log.read_text(errors='replace')[-4000:]}")

    def stop(self) -> None:
        """Stop the server as an operator would; kill it if it does not listen."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """Let the process hang: connections stay open, nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def market(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, chromium: Browser
) -> Iterator[Market]:
    """A demo market for the tests of one file: it opens at 10:00 market time, when every roof has sun.

    A file whose tests wait for delivery and settlement says ``SPEED``: how many times as fast as life its market runs.
    """
    running = Market(tmp_path_factory.mktemp("market"))
    running.speed = getattr(request.module, "SPEED", 0)
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The installed Chromium."""
    path = shutil.which(CHROMIUM)
    if path is None:
        reason = f"no Chromium at {CHROMIUM}: install it or set CHROMIUM to its path"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    # One browser a file, not one a run: Playwright's event loop lives as long as it does, and Django refuses to touch a
    # database in a thread with a running loop.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGS)
        yield browser
        browser.close()


class Visitor:
    """One person's browser: its context, and everything that page wrote to the console as an error."""

    def __init__(self, context: BrowserContext, url: str):
        self.context = context
        self.url = url
        self.errors: list[str] = []
        self.page = self.open()

    def open(self) -> Page:
        """Open another tab."""
        page = self.context.new_page()
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        return page

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def sign_in(self, role: str) -> None:
        """Take one of the demo's doors."""
        self.page.goto(f"{self.url}/sign-in")
        self.page.locator(f'form[action="/demo/sign-in"] button[name="role"][value="{role}"]').click()
        self.page.wait_for_load_state()

    def goto(self, path: str) -> Page:
        """Go to a page of the market."""
        self.page.goto(self.url + path)
        return self.page

    def send(self, method: str, path: str, data: object = None) -> dict[str, Any]:
        """Call REST as a script of the page that is open would, and return the answer, which must be a success."""
        token = self.page.locator('meta[name="csrf-token"]').get_attribute("content") or ""
        headers = {"X-CSRFToken": token, "Origin": self.url}
        answer = self.page.request.fetch(self.url + path, method=method, data=data, headers=headers)
        assert answer.ok, (method, path, answer.status, answer.text())
        found: dict[str, Any] = answer.json()
        return found

    def order(self, contract: str, side: str, price: str, energy_wh: int) -> dict[str, Any]:
        """Place a limit order by REST and return what became of it."""
        order = {"contract": contract, "side": side, "price": price, "energy_wh": energy_wh}
        return self.send("POST", "/api/v1/orders", order)


@pytest.fixture
def visit(chromium: Browser, market: Market) -> Iterator[Callable[..., Visitor]]:
    """Return a function that gives a new person's browser, signed in as a role unless that is ""."""
    contexts: list[BrowserContext] = []

    def make(
        role: str = "", *, size: tuple[int, int] = DESKTOP, language: str = "en", scheme: str = "light", url: str = ""
    ) -> Visitor:
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme=scheme,
            locale="zh-CN" if language == "zh-hans" else "en-GB",
            has_touch=size == PHONE,
        )
        contexts.append(context)
        home = url or market.url
        context.add_cookies([{"name": "django_language", "value": language, "url": home}])
        visitor = Visitor(context, home)
        if role:
            visitor.sign_in(role)
            context.add_cookies([{"name": "django_language", "value": language, "url": home}])
        return visitor

    yield make
    for context in contexts:
        context.close()


def join(newcomer: Visitor, staff: Visitor, area: str) -> Visitor:
    """Let a stranger become a member with money in an area, the way people do, and return the member."""
    name = f"member{time.monotonic_ns()}"
    page = newcomer.goto("/sign-up")
    page.get_by_label("Name to sign in with").fill(name)
    page.get_by_label("E-mail").fill(f"{name}@sunledger.example")
    page.get_by_label("Password").fill("a kettle and a lamp")
    page.get_by_label("Address of the home").fill("7 Sun Street")
    page.get_by_label("Meter number").fill(name)
    page.get_by_label("Grid area").select_option(area)
    page.get_by_role("button", name="Ask for an account").click()
    desk = staff.goto("/staff")
    desk.locator("form.case", has_text=name).get_by_role("button", name="Open the account").click()
    desk.locator(".notice.success").wait_for()
    newcomer.goto("/money")
    page.get_by_label("Amount, EUR").first.fill("40")
    page.get_by_role("button", name="Get a reference").click()
    page.locator("table code").first.wait_for()
    desk = staff.goto("/staff/money")
    desk.get_by_role("button", name="It has arrived").first.click()
    desk.locator(".notice.success").wait_for()
    newcomer.goto("/home")
    return newcomer


@pytest.fixture
def shoot(request: pytest.FixtureRequest) -> Callable[[Page, str], None]:
    """Return a function that keeps a screenshot among the artefacts of the run (build/screens)."""

    def keep(page: Page, name: str) -> None:
        SHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SHOTS / f"{name}.png", full_page=True)

    return keep
