"""`einsearch describe`: what a structure is and what it costs."""

from __future__ import annotations

import click

from einsearch import options
from einsearch.output import emit_pairs


@click.command("describe")
@click.argument("structure")
@click.option("--d-in", type=int, default=1024, show_default=True, metavar="N", help="Width of the input.")
@click.option("--d-out", type=int, metavar="N", help="Width of the output; default that of the input.")
@options.formats()
def command(structure: str, d_in: int, d_out: int | None, format_: str) -> None:
    """What STRUCTURE is and what it costs as a layer.

    STRUCTURE is a name (dense, monarch, kronecker, generic, low_rank:1/2, btt:1/4, tensor_train:1/4, ...) or its seven
    exponents, "(alpha|beta|gamma|delta|epsilon|phi|rho)".
    """
    from space.structure import Structure

    parsed = Structure.parse(structure)
    real = parsed.realize(d_in, d_in if d_out is None else d_out)
    emit_pairs(
        {
            "name": parsed.name,
            "key": parsed.key,
            "theta": [float(t) for t in parsed.theta] if format_ == "json" else parsed.key,
            "omega": float(parsed.omega),
            "psi": float(parsed.psi),
            "nu": float(parsed.nu),
            "factors": parsed.factors,
            "d_in": real.d_in,
            "d_out": real.d_out,
            "padded_in": real.padded_in,
            "padded_out": real.padded_out,
            "sizes": dict(real.sizes),
            "order": real.order,
            "macs": real.macs,
            "params": real.params,
            "rank": real.rank,
            "macs_over_dense": real.macs / (real.d_in * real.d_out),
            "realised": {"omega": real.omega, "psi": real.psi, "nu": real.nu},
        },
        format_,
    )
