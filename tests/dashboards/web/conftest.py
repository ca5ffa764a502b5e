"""Real servers over real databases, and a real browser."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import threading
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple
from urllib.parse import urlencode, urlsplit

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright
from starlette.types import ASGIApp

from benchmarks.synthetic import write_study
from dashboards.web.app import create_app
from dashboards.web.security import Gate, trusted_hosts
from space.structure import Structure
from storage.database import Database
from storage.ledger import Ledger
from storage.studies import PlannedTrial, create_study

NASTY = "<script>document.title='owned'</script>"
TRIALS = 40
HOSTS = trusted_hosts("127.0.0.1")
NO_BROWSER = (
    "no chromium on this machine, so no page was looked at: install it (Debian: apt-get install chromium) and run again"
)
RECORDED: dict[str, Any] = {"seed": 7, "corpus_fingerprint": "ab12", "target_compute": 1e12, "versions": {"einsearch": "0.1.0"}}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Site(NamedTuple):
    """A running server, and the application behind its gate."""

    port: int
    database: Database
    url: str
    behind: ASGIApp

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, path: str, method: str = "GET", body: str | None = None, query: dict[str, Any] | None = None, **headers: str
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path + ("?" + urlencode(query) if query else ""), body, sent)
            with connection.getresponse() as answer:
                headers = {name.lower(): value for name, value in answer.getheaders()}
                endless = headers.get("content-type", "").startswith("text/event-stream")
                return Answer(answer.status, headers, answer.readline() if endless else answer.read())


@contextlib.contextmanager
def served(url: str, token: str | None = None, foresight: list[str] | None = None) -> Iterator[Site]:
    """A server in a thread, on any free port."""
    with Database.open(url) as database:
        gate = create_app(database, url, token=token, hosts=HOSTS, foresight=foresight)
        assert isinstance(gate, Gate)
        with listening(gate) as port:
            yield Site(port, database, url, gate.app)


@contextlib.contextmanager
def listening(app: ASGIApp, lifespan: Literal["on", "off"] = "on") -> Iterator[int]:
    """Serve an application in a thread; gives the port."""
    config = uvicorn.Config(app, port=0, lifespan=lifespan, log_level="warning", timeout_graceful_shutdown=1)
    bound = config.bind_socket()
    bound.listen()
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        yield bound.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        bound.close()


def planned(structure: str, rung: int = 0, width: int = 64) -> PlannedTrial:
    return PlannedTrial("baseline" if structure == "dense" else "known", Structure.parse(structure), rung, width, {"lr": 0.003})


def fill(database: Database) -> None:
    """Studies 1 to 5: many trials; none; one; a running one; one with a nasty name."""
    write_study(database, "made-up", trials=TRIALS, evaluations=6, kinds=14)
    create_study(database, "empty", {}, 5, [], **RECORDED)
    one = create_study(database, "one", {}, 1, [planned("dense")], **RECORDED)
    run_one(database, one.id)
    rungs = {"rungs": [{"flops": 1e12}]}
    running = create_study(database, "running", rungs, 9, [planned("dense"), planned("monarch")], **RECORDED)
    run_one(database, running.id)
    ledger = Ledger(database, running.id)
    claim: Any = ledger.claim(ledger.join())
    ledger.record(claim, [evaluation(step) for step in (1, 2, 3)])
    create_study(database, NASTY, {"note": NASTY}, 5, [planned("dense")], **RECORDED)


class Evaluation(NamedTuple):
    """An evaluation as trainers report it."""

    step: int
    tokens: int
    flops: float
    loss: float
    train_loss: float
    seconds: float
    warmup: bool


def evaluation(step: int, warmup: bool = False) -> Evaluation:
    return Evaluation(step, 100 * step, 1e11 * step, 2.0 + 1.0 / step, 2.0, 2.0 * step, warmup)


def run_one(database: Database, study: int) -> None:
    """Run the next trial of a study to its end."""
    ledger = Ledger(database, study)
    driver = ledger.join()
    claim: Any = ledger.claim(driver)
    ledger.record(claim, [evaluation(step) for step in (1, 2, 3, 4)])
    ledger.finish(claim, "completed", loss=2.25, flops=4e11, tokens=400, steps=4, seconds=8.0)
    ledger.leave(driver)


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a database with the studies of `fill`."""
    url = f"sqlite:///{tmp_path_factory.mktemp('web')}/einsearch.db"
    with Database.open(url, create=True) as database:
        fill(database)
    return url


@pytest.fixture(scope="session")
def site(filled: str) -> Iterator[Site]:
    with served(filled) as running:
        yield running


@pytest.fixture(scope="session")
def guarded(site: Site) -> Iterator[Site]:
    """The same application, behind a token."""
    with listening(Gate(site.behind, "a-secret", HOSTS), "off") as port:
        yield site._replace(port=port)


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A database without any study."""
    url = f"sqlite:///{tmp_path_factory.mktemp('bare')}/einsearch.db"
    Database.open(url, create=True).close()
    with served(url) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip(NO_BROWSER)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


class Visit(NamedTuple):
    """A page of the browser, what its console said, and the addresses that it asked for."""

    page: Page
    faults: list[str]
    asked: list[str]


WIDE: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 800}


@pytest.fixture(scope="session")
def tab(browser: Browser) -> Iterator[Visit]:
    """One tab for all tests: a new one would load and compile plotly.js again, which takes seconds."""
    page = browser.new_context(viewport=WIDE).new_page()
    faults: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    yield Visit(page, faults, asked)
    page.context.close()


@pytest.fixture
def visit(tab: Visit, site: Site) -> Iterator[Visit]:
    """The tab, its lists empty. A test asks for it last, so that it has left a server before that ends."""
    tab.faults.clear()
    tab.asked.clear()
    yield tab
    tab.page.emulate_media(color_scheme="light")
    tab.page.set_viewport_size(WIDE)
    tab.page.goto(f"{site.base}/api")


def drawn(page: Page) -> None:
    """Wait until every plot of the page has been in sight and is drawn."""
    page.wait_for_selector("body[data-ready]")
    for figure in page.query_selector_all("figure[data-plot]"):
        figure.scroll_into_view_if_needed()
        page.wait_for_function("figure => figure.dataset.drawn", arg=figure)


def settled(visit: Visit, site: Site, path: str) -> None:
    visit.page.goto(site.base + path)
    drawn(visit.page)


def sound(visit: Visit, allowed: tuple[str, ...] = ()) -> None:
    """No fault in the console, nothing asked of another machine, nothing wider than the window, no fault of access."""
    assert [fault for fault in visit.faults if not any(part in fault for part in allowed)] == []
    assert {urlsplit(url).hostname for url in visit.asked if not url.startswith(("data:", "blob:"))} == {"127.0.0.1"}
    assert visit.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    found = Axe().run(visit.page).response["violations"]
    serious = [
        (one["id"], [node["html"][:160] for node in one["nodes"]]) for one in found if one["impact"] in ("serious", "critical")
    ]
    assert serious == []
