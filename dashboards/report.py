"""A study's report: one HTML file that opens offline and holds everything it shows.

plotly.js is written into the file once; figures are JSON in it; nothing is loaded from anywhere.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from dashboards import coordinates, foresight, left_out, story
from dashboards import law_plots as together
from dashboards.answer import answer, leader
from dashboards.diagram import CAPTION as DIAGRAM_CAPTION
from dashboards.paper.loss import dense_line, families_data
from dashboards.paper.ranking import exponents_data, multiplier_curves_data
from dashboards.plots import Plot, highlighted, plots
from dashboards.story import ReportBundle
from dashboards.style import DARK_OF, few_decades
from dashboards.taxonomy import TITLES
from space.errors import DiskError

ROWS = 12
"""Rows of the leaderboard and of the laws that are in sight; the others open on demand."""


def write_report(path: str | os.PathLike[str], bundle: ReportBundle) -> Path:
    """Write the report, whole or not at all, and return its path; the folder is made where it is missing.

    Raises:
        DiskError: when the file cannot be written; an older report at that place is left as it was.
    """
    target = Path(path)
    html = report_html(bundle)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, html)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DiskError(f"cannot write the report {target}: {reason}; choose another place or make room") from error
    return target


def _replace(target: Path, text: str) -> None:
    """Write beside the target, then rename over it."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except OSError:
        with suppress(OSError):
            Path(name).unlink()
        raise


def report_html(bundle: ReportBundle) -> str:
    """The report as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    folder = Environment(loader=PackageLoader("dashboards"), autoescape=True, undefined=StrictUndefined)
    drawn = report_plots(bundle)
    return folder.get_template("report.html").render(
        bundle=bundle,
        answer=answer(bundle.leaderboard, bundle.target_compute),
        facts=story.facts(bundle),
        plots=drawn,
        close=[name for name in drawn if name.startswith("close-")],
        families=[name for name in drawn if name.startswith("family-")],
        figures=script_json(figures_json(drawn)),
        plotly=files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8"),
        leaderboard=story.standings(bundle.leaderboard),
        glossary=story.glossary(bundle.leaderboard),
        laws=story.law_table(bundle),
        diagrams=story.diagrams(bundle),
        diagram_caption=DIAGRAM_CAPTION,
        caveats=story.sentences(bundle),
        foreseen=story.foreseen(bundle),
        transfer=story.transfer(bundle),
        reproducing=story.REPRODUCING,
        visible=ROWS,
        settings=story.flat(bundle.settings),
        settings_json=json.dumps(bundle.settings, indent=1),
    )


def report_plots(bundle: ReportBundle) -> dict[str, Plot]:
    """The plots of a study, those of the laws of dense and of the leader from close by, and what the search foresaw."""
    drawn = plots(bundle.trials, bundle.points, bundle.leaderboard, bundle.laws, bundle.target_compute)
    foreseen = foresight.foresight_figure(foresight.foresight_data(bundle.trials, bundle.predictions))
    drawn["foresight"] = Plot("foresight", "Foreseen and measured", foresight.CAPTION, foreseen)
    moved = coordinates.coordinates_data(bundle.movements, highlighted(bundle.leaderboard))
    drawn["coordinates"] = Plot("coordinates", "Coordinates", coordinates.CAPTION, coordinates.coordinates_figure(moved))
    drawn |= _law_plots(bundle)
    best = leader(bundle.leaderboard)
    for number, key in enumerate(["dense", *([best.key] if best is not None else [])]):
        if bundle.laws is not None and key in bundle.laws.laws:
            data = left_out.left_out_data(bundle.points, bundle.laws, key, bundle.target_compute)
            name = f"close-{number}"
            title = f"The law of {data.name}, and what was left out"
            drawn[name] = Plot(name, title, left_out.CAPTION, left_out.left_out_figure(data))
    return drawn


def _law_plots(bundle: ReportBundle) -> dict[str, Plot]:
    """Plots of all laws together: what they save, their exponents, and three families."""
    keys = list(bundle.leaderboard["key"])
    target = bundle.target_compute
    curves = multiplier_curves_data(bundle.laws, highlighted(bundle.leaderboard), target)
    pooled = None if bundle.laws is None else bundle.laws.exponent_interval
    savings = together.savings_figure(curves, target)
    exponents = together.exponents_figure(exponents_data(bundle.laws, keys), pooled)
    drawn = [
        Plot("savings", "What the best save, over compute", together.SAVINGS_CAPTION, savings),
        Plot("exponents", "Exponents of the laws", together.EXPONENTS_CAPTION, exponents),
    ]
    if bundle.laws is not None:
        dense = dense_line(bundle.points, bundle.laws)
        for family in families_data(bundle.points, bundle.leaderboard, bundle.laws):
            shown = together.family_figure(family, dense)
            title = f"Laws by {TITLES[family.exponent]}, {family.title}"
            drawn.append(Plot(f"family-{family.exponent}", title, together.FAMILIES_CAPTION, shown))
    return {plot.name: plot for plot in drawn}


def figures_json(drawn: Mapping[str, Plot]) -> dict[str, Any]:
    """What templates/figures.js draws: the figures by name, and the partner of each colour on a dark page."""
    figures = {name: json.loads(plot.figure.to_json()) for name, plot in drawn.items()}
    for shown in figures.values():
        few_decades(shown)
    return {"figures": figures, "dark": dict(DARK_OF)}


def script_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
