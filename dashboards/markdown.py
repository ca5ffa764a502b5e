"""A study's report as Markdown, with its figures as files in a folder beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dashboards import story
from dashboards.answer import answer
from dashboards.plots import highlighted
from space.errors import DiskError

if TYPE_CHECKING:
    from dashboards.story import ReportBundle

STORY = (
    "multipliers",
    "frontier",
    "savings",
    "exponents",
    "families",
    "taxonomy",
    "simplices",
    "steering",
    "share",
    "foresight",
    "coordinates",
)
"""Figures of a report, in its order."""

STANDING = {
    "structure": "structure",
    "multiplier": "compute multiplier",
    "time": "multiplier in seconds",
    "loss": "loss at the target (nats per token)",
    "place": "ω · ψ · ν",
    "trials": "trials",
    "flops": "FLOPs spent",
    "verdict": "verdict",
}
LAW = {
    "structure": "structure",
    "exponent": "exponent a",
    "range": "FLOPs on its frontier",
    "runs": "runs",
    "used": "points used",
    "left": "left out",
    "verdict": "verdict",
}


def write_markdown(path: str | os.PathLike[str], bundle: ReportBundle, *, figures: bool = True) -> Path:
    """Write the report and, with `figures`, a folder of SVG files named after it; return the path of the text.

    Raises:
        DiskError: when a file cannot be written.
    """
    target = Path(path)
    folder = target.with_name(f"{target.stem}-figures") if figures else None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if folder is not None:
            folder.mkdir(exist_ok=True)
            for name, content in _figures(bundle).items():
                (folder / f"{name}.svg").write_bytes(content)
        target.write_text(report_markdown(bundle, folder.name if folder is not None else None), encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise DiskError(f"cannot write the report {target}: {reason}; choose another place or make room") from error
    return target


def report_markdown(bundle: ReportBundle, figures: str | None = None) -> str:
    """The report as text; `figures` is the folder of its figures, seen from the text."""
    told = answer(bundle.leaderboard, bundle.target_compute)
    parts = [
        f"# {_plain(bundle.study)}",
        f"Which Einsum structure of the linear layers gives the lowest loss for its compute on {_plain(bundle.task)}, and how "
        "much dense compute does it save?",
        f"**{told.sentence}**",
        "\n".join(f"- {value} {label}" for value, label in story.facts(bundle)),
        "## Leaderboard",
        "Structures ordered by the lower end of their compute multiplier: how many times its compute a dense model needs for "
        "the same loss. Intervals are 90 %.",
        _table(story.standings(bundle.leaderboard), STANDING) or "No structure has been ranked yet.",
        *_shown(figures, "multipliers"),
        "## Laws",
        *_laws(bundle),
        *_shown(figures, "exponents"),
        "## Frontier",
        *_shown(figures, "frontier", "savings", "families"),
        "## Where good structures lie",
        *_shown(figures, "taxonomy", "simplices"),
        "## How the search got there",
        *_shown(figures, "steering", "share", "foresight"),
        story.foreseen(bundle),
        "## Does the learning rate transfer",
        story.transfer(bundle),
        *_shown(figures, "coordinates"),
        "## Caveats",
        "\n".join(f"- {line}" for line in story.sentences(bundle)),
        *_verdicts(bundle),
        "## How to reproduce it",
        story.REPRODUCING,
        *_commands(bundle.commands),
        f"Settings:\n\n```json\n{json.dumps(bundle.settings, indent=1)}\n```",
        "## Provenance",
        "\n".join(f"- {name}: {_plain(value)}" for name, value in {**bundle.provenance, **bundle.versions}.items()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _figures(bundle: ReportBundle) -> dict[str, bytes]:
    from dashboards.paper.catalogue import DRAWINGS, drawn

    keys = highlighted(bundle.leaderboard)
    return {name: drawn(DRAWINGS[name], bundle, keys, "svg") for name in STORY}


def _shown(folder: str | None, *names: str) -> list[str]:
    """Figures with the sentences that say how to read them."""
    if folder is None:
        return []
    from dashboards.paper.catalogue import DRAWINGS

    return [f"![{name}]({folder}/{name}.svg)\n\n*{DRAWINGS[name].sentence}*" for name in names]


def _laws(bundle: ReportBundle) -> list[str]:
    laws = story.law_table(bundle)
    if laws is None:
        return ["No law has been fitted: that takes dense runs to compare with."]
    unknown = "" if laws["identified"] else ", not identified by these data"
    pooling = f", p = {laws['pooling']} for one exponent for all structures" if laws["pooling"] else ""
    shared = [
        "L(C) = L∞ + b·C^−a, with C in FLOPs and L in nats per token",
        f"L∞ (nats per token): {laws['l_inf']}{unknown}",
        f"exponent a: {laws['exponent']}{pooling}",
        f"spread of runs: {laws['sigma']} of the loss",
        *([f"size and data, L(N, D) of dense: {laws['surface']}"] if laws["surface"] else []),
    ]
    return ["\n".join(f"- {line}" for line in shared), _table(laws["rows"], LAW)]


def _verdicts(bundle: ReportBundle) -> list[str]:
    meanings = story.glossary(bundle.leaderboard)
    listed = "\n".join(f"- *{word}*: {meaning}" for word, meaning in meanings.items())
    return [f"What the verdicts mean:\n\n{listed}"] if meanings else []


def _commands(commands: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"{purpose}:\n\n```sh\n{chr(10).join(lines)}\n```" for purpose, lines in commands.items()]


def _table(rows: Sequence[Mapping[str, str]], columns: Mapping[str, str]) -> str:
    """Rows as a table; empty without a row."""
    if not rows:
        return ""
    lines = [list(columns.values()), ["---"] * len(columns), *([_plain(row[name]) for name in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Text that Markdown takes as it stands."""
    for sign in "\\`*_[]<>|#":
        text = text.replace(sign, "\\" + sign)
    return text
