"""Every page in a real browser: what it shows, that it is drawn, that it asks nobody else, that people can use it."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from .conftest import NASTY, PHONE, TRIALS, Site, Visit, settled, sound

ENDS = ("", "/leaderboard", "/frontier", "/taxonomy", "/trials", "/rungs", "/steering", "/checks", "/provenance", "/optuna")
DRAWN = ("/taxonomy", "/rungs", "/steering", "/trials", "/frontier", "/leaderboard", "")
"""Those that show other things the more there is to show."""
NEAR = 26
STUDIES = {"empty": 2, "one trial": 3, "running": 4}
FULL = [
    *(f"/studies/1{end}" for end in ENDS),
    *("/studies", "/studies?study=1&study=4", "/studies/1/structure?key=monarch", "/studies/1/trials/3", "/api", "/studies/99"),
    "/studies/1/frontier?structure=dense",
]
DARK = ("/studies/1", "/studies/1/leaderboard", "/studies/1/trials/3", "/studies/1/structure?key=monarch")
INK = {
    "/studies/1/steering": ("share", "#0072b2", ""),
    "/studies/1/frontier": ("frontier", "#1d2129", ""),
    "/studies/1/checks": ("coordinates", "#0072b2", ""),
    "/studies/1/trials/3": ("trial", "#0072b2", "#52b0ea"),
}
"""Under a strict policy some plots fail without a word: a colour of each that must be on the screen, or its partner."""


def pixels(data: bytes) -> set[tuple[int, int, int]]:
    """The distinct colours of a PNG."""
    image = Image.open(BytesIO(data)).convert("RGB")
    found = image.getcolors(image.width * image.height) or []
    return {colour for _, colour in found}  # type: ignore[misc]


def holds(found: set[tuple[int, int, int]], colour: str) -> bool:
    """Whether a colour is there, as far as a translucent mark shows it."""
    wanted = bytes.fromhex(colour[1:])
    return any(max(abs(a - b) for a, b in zip(one, wanted, strict=True)) <= NEAR for one in found)


def colours(page: Page, name: str) -> set[tuple[int, int, int]]:
    """The colours of a plot on the screen."""
    return pixels(page.locator(f"#plot-{name}").screenshot())


@pytest.mark.parametrize("path", FULL)
def test_every_page_is_drawn_and_sound(visit: Visit, site: Site, path: str) -> None:
    """On a wide screen, on a phone, and some in the dark."""
    page = visit.page
    settled(visit, site, path)
    assert page.locator("h1").count() == 1
    assert page.locator(".plot.failed").count() == 0
    sound(visit, ("404",) if path == "/studies/99" else ())
    plot, light, dark = INK.get(path, ("", "", ""))
    assert not plot or holds(colours(page, plot), light)
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    if path in DARK:
        page.emulate_media(color_scheme="dark")
        sound(visit)
        if dark:
            page.wait_for_function(f"JSON.stringify(document.getElementById('plot-{plot}').data).includes('{dark}')")
            assert holds(colours(page, plot), dark)


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES.keys())
def test_every_page_of_a_study_with_little_in_it(visit: Visit, site: Site, study: int) -> None:
    for end in ENDS if study == STUDIES["empty"] else DRAWN:
        settled(visit, site, f"/studies/{study}{end}")
        assert visit.page.locator(".plot.failed").count() == 0
        assert "None" not in visit.page.locator("main").inner_text()
    sound(visit)


def test_a_database_without_a_study_says_how_to_start_one(visit: Visit, bare: Site) -> None:
    settled(visit, bare, "/")
    assert "einsearch search" in visit.page.locator("main").inner_text()
    sound(visit)


def test_a_plot_in_space_holds_ink(visit: Visit, site: Site) -> None:
    settled(visit, site, "/studies/1/taxonomy")
    visit.page.wait_for_function("() => document.querySelector('#plot-taxonomy canvas')")
    assert len(colours(visit.page, "taxonomy")) > 20


def test_the_keyboard_reaches_everything(visit: Visit, site: Site) -> None:
    settled(visit, site, "/studies/1/trials")
    visit.page.keyboard.press("Tab")
    assert visit.page.evaluate("document.activeElement.className") == "skip"
    visit.page.keyboard.press("Enter")
    assert visit.page.evaluate("location.hash") == "#content"
    visit.page.focus("th a:has-text('loss')")
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_url("**sort=loss**")
    assert visit.page.locator("th[aria-sort='descending']").inner_text().startswith("loss")


def test_the_choice_of_colours_is_kept(browser: Browser, site: Site) -> None:
    page = browser.new_context().new_page()
    page.goto(site.base + "/studies/1/provenance")
    page.click("#theme")
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 17, 21)"
    page.context.close()


def test_a_plot_can_be_saved(visit: Visit, site: Site, tmp_path: Path) -> None:
    settled(visit, site, "/studies/1/steering")
    assert len(visit.page.query_selector_all("#plot-steering .points path")) >= TRIALS - 5
    saved = {}
    for kind in ("png", "svg", "csv"):
        with visit.page.expect_download() as found:
            visit.page.click(f"figure[data-plot=steering] [data-{'csv' if kind == 'csv' else f'save={kind}'}]")
        found.value.save_as(tmp_path / kind)
        assert found.value.suggested_filename == f"steering.{kind}"
        saved[kind] = (tmp_path / kind).read_bytes()
    assert holds(pixels(saved["png"]), "#0072b2")
    assert saved["svg"].startswith(b"<svg") and b"compute multiplier" in saved["svg"]
    lines = saved["csv"].decode().splitlines()
    assert lines[0] == "trace,x,y,z,a,b,c,text" and sum(line.startswith("proposal,") for line in lines) > 10
    assert visit.faults == []


def test_a_chosen_point_leaves_its_trial_out_of_the_law(visit: Visit, site: Site) -> None:
    settled(visit, site, "/studies/1/frontier?structure=dense")
    page = visit.page
    page.wait_for_function("() => document.querySelectorAll('#plot-law .points path').length > 5")
    before = page.locator("#law").inner_text()
    count = page.evaluate("document.querySelectorAll('#plot-law .points path').length")
    number = page.evaluate("document.getElementById('plot-law').data.at(-1).customdata[0]")
    page.evaluate(
        "number => document.getElementById('plot-law').emit('plotly_click', {points: [{customdata: number}]})", number
    )
    page.wait_for_function("count => document.querySelectorAll('#plot-law .points path').length < count", arg=count)
    page.wait_for_function("before => document.getElementById('law').innerText !== before", arg=before)
    assert page.url.endswith(f"exclude={number}")
    drawn_numbers = page.evaluate("document.getElementById('plot-law').data.flatMap(trace => trace.customdata || [])")
    assert number not in drawn_numbers
    assert visit.faults == []


def test_a_name_that_is_a_script_is_not_run(visit: Visit, site: Site) -> None:
    for path in ("/studies", "/studies/5", "/studies?study=5&study=1"):
        settled(visit, site, path)
        assert visit.page.title() != "owned" and NASTY in visit.page.locator("body").inner_text()
    assert visit.faults == []
