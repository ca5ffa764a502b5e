"""The report, opened from a file by a real browser that reaches nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from dashboards.report import write_report

from .conftest import PHONE, WIDE
from .test_web_pages import holds, pixels


def test_the_report_opens_offline_and_its_plots_have_ink(browser: Browser, small: Any, tmp_path: Path) -> None:
    path = write_report(tmp_path / "report.html", small.bundle())
    assert path.stat().st_size < 10e6
    context = browser.new_context(viewport=WIDE, offline=True)
    page = context.new_page()
    asked: list[str] = []
    faults: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(path.as_uri())
    page.wait_for_function("[...document.querySelectorAll('.plot')].every(plot => plot.querySelector('.main-svg, canvas'))")
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [path.as_uri()]
    assert holds(pixels(page.locator("#plot-frontier").screenshot()), "#1d2129")
    assert holds(pixels(page.locator("#plot-savings").screenshot()), "#0072b2")
    assert len(pixels(page.locator("#plot-taxonomy").screenshot())) > 20
    empty = page.evaluate(
        "[...document.querySelectorAll('.plot')].filter(p => !p.querySelector('path, canvas')).map(p => p.id)"
    )
    assert empty == []
    found = Axe().run(page, context={"exclude": [[".plot"]]}).response["violations"]
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
    page.set_viewport_size(PHONE)
    page.wait_for_function("document.documentElement.scrollWidth <= window.innerWidth")
    assert faults == []
    context.close()
