"""`einsearch describe`: what a structure is and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from einsearch import options
from einsearch.output import emit_pairs

if TYPE_CHECKING:
    from space.realization import Realization
    from space.structure import Structure


@click.command("describe")
@click.argument("structure")
@click.option("--d-in", type=int, default=1024, show_default=True, metavar="N", help="Width of the input.")
@click.option("--d-out", type=int, metavar="N", help="Width of the output; default that of the input.")
@options.formats()
def command(structure: str, d_in: int, d_out: int | None, format_: str) -> None:
    """What STRUCTURE is and what it costs as a layer.

    STRUCTURE is a name (dense, monarch, kronecker, generic, low_rank:1/2, btt:1/4, tensor_train:1/4, ...) or its seven
    exponents, "(alpha|beta|gamma|delta|epsilon|phi|rho)". It may have more factors (kronecker3, block_tensor_train3:1/6) or
    edges of fixed size (monarch:blocks=4, low_rank:rank=64).
    """
    from space.structure import Structure

    parsed = Structure.parse(structure)
    real = parsed.realize(d_in, d_in if d_out is None else d_out)
    theta = [float(t) for t in parsed.theta]
    facts = {
        "name": parsed.name,
        "key": parsed.key,
        "theta": theta if format_ == "json" else dict(zip(parsed.edges, theta, strict=True)),
        "omega": float(parsed.omega),
        "psi": float(parsed.psi),
        "nu": float(parsed.nu),
        "factors": parsed.factors,
        "fixed": dict(parsed.fixed),
        "d_in": real.d_in,
        "d_out": real.d_out,
        "padded_in": real.padded_in,
        "padded_out": real.padded_out,
        "sizes": dict(real.sizes),
        "order": real.sequence,
        "macs": real.macs,
        "params": real.params,
        "rank": real.rank,
        "macs_over_dense": real.macs / (real.d_in * real.d_out),
        "realised": {"omega": real.omega, "psi": real.psi, "nu": real.nu},
    }
    emit_pairs(facts, format_, lines(parsed, real))


def lines(structure: Structure, real: Realization) -> dict[str, str]:
    """The same for people."""
    dense = real.d_in * real.d_out
    padded = (real.padded_in, real.padded_out) != (real.d_in, real.d_out)
    padding = f", padded to {real.padded_in:,} to {real.padded_out:,}" if padded else ""
    order = "" if structure.is_dense else f", factors in the order {real.sequence}"
    return {
        "structure": structure.name,
        "theta": "one factor" if structure.is_dense else structure.key,
        "taxonomy": f"omega {structure.omega}, psi {structure.psi}, nu {structure.nu}",
        "": f"omega {real.omega:.3g}, psi {real.psi:.3g}, nu {real.nu:.3g} as realised at these widths",
        "layer": f"{real.d_in:,} to {real.d_out:,}{padding}",
        "sizes": ", ".join(f"{edge} {size}" for edge, size in real.sizes.items() if structure.factors <= 2 or size > 1),
        "macs": f"{real.macs:,} per token, {real.macs / dense:.3g} of dense{order}",
        "params": f"{real.params:,}, {real.params / dense:.3g} of dense",
        "rank": f"{real.rank:,} of {min(real.d_in, real.d_out):,}",
    }
