"""A headless Chromium that opens the pages of reports and records what they load and report."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

DESKTOP, PHONE = {"width": 1440, "height": 1000}, {"width": 390, "height": 844}


@dataclass
class OpenedPage:
    """A page in the browser, with all that it loaded and every error that it reported."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def count(self) -> str:
        return str(self.page.locator("output.count").inner_text())

    def paint(self, place: int) -> str:
        """What the panel's canvas shows."""
        return str(self.page.locator(".plot canvas").nth(place).evaluate("(canvas) => canvas.toDataURL()"))

    def settle(self) -> None:
        """Wait until two frames are drawn."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def column(self, name: str) -> list[str]:
        """A table column's cells, of the rows that are in the document."""
        return list(self.page.locator(f".rows [role=row] .{name}").all_inner_texts())


OpenPage = Callable[..., OpenedPage]


@contextmanager
def chromium() -> Iterator[Any]:
    """A running browser; skips the test where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright to drive a browser")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs a Chromium on this machine (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def page_opener(browser: Any) -> Iterator[OpenPage]:
    """Opens files, each in a fresh browser context; at the end no page may have reported an error or loaded anything but itself."""
    opened: list[OpenedPage] = []

    def open_page(file: Path, viewport: dict[str, int] = DESKTOP, **options: Any) -> OpenedPage:
        context = browser.new_context(viewport=viewport, accept_downloads=True, **options)
        one = OpenedPage(context.new_page())
        one.page.on("request", lambda request: one.requests.append(request.url))
        one.page.on("console", lambda message: one.complaints.append(message.text))
        one.page.on("pageerror", lambda error: one.complaints.append(str(error)))
        one.page.on("dialog", lambda dialog: one.complaints.append(f"dialog {dialog.message}"))
        one.page.goto(file.resolve().as_uri())
        one.page.wait_for_selector("body[data-ready]", timeout=60_000)
        one.settle()
        opened.append(one)
        return one

    yield open_page
    for one in opened:
        assert one.complaints == []
        assert all(url.startswith(("file:", "data:", "blob:")) for url in one.requests)
        files = [url for url in one.requests if url.startswith("file:")]
        assert all(url.endswith(".html") for url in files)
        one.page.context.close()
