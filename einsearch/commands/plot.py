"""`einsearch plot`: one figure of a study, for a paper."""

from __future__ import annotations

from pathlib import Path

import click

from einsearch import options
from einsearch.output import line_width, write_whole


@click.command("plot")
@click.argument("name", required=False)
@click.argument("study", required=False)
@options.database
@click.option("--list", "list_", is_flag=True, help="Name the figures, and say how to read each.")
@options.output_file(help_="Where to write: FILE.svg, FILE.pdf or FILE.png; default NAME.svg.")
@click.option("--structure", "structures", multiple=True, help="Draw this structure in colour instead of the best; repeat.")
def command(
    name: str | None, study: str | None, db: str, list_: bool, output: Path | None, structures: tuple[str, ...]
) -> None:
    """Draw the figure NAME of STUDY for a paper.

    SVG and PDF are made of lines and letters at the width of a column or of a page; a PNG has 300 pixels an inch. `einsearch
    plot --list` names the figures. STUDY can be left out where the database holds one study.
    """
    from dashboards.paper.catalogue import paper_figure
    from dashboards.paper.style import suffix_of
    from einsearch.report import gather
    from search.study import Study

    if list_:
        click.echo(listing(line_width()))
        return
    if name is None:
        raise click.UsageError("which figure? Give its NAME; `einsearch plot --list` has them")
    target = output if output is not None else Path(f"{name}.svg")
    suffix = suffix_of(target)
    bundle = gather(Study(options.only(db) if study is None else study, db=db), foresee=name == "foresight")
    write_whole(target, paper_figure(name, bundle, structures, suffix))
    click.echo(f"figure: {target}")


def listing(width: int) -> str:
    """Every figure with its sentence, folded to a line's width."""
    import textwrap

    from dashboards.paper.catalogue import DRAWINGS

    longest = max(map(len, DRAWINGS)) + 2
    wide = min(width, 100)
    entries = [
        textwrap.wrap(f"{name:{longest}}{it.sentence}", wide, subsequent_indent=" " * longest) for name, it in DRAWINGS.items()
    ]
    return "\n".join(line for entry in entries for line in entry)
