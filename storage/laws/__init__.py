"""Scaling laws of structures: frontiers, power laws, compute multipliers and the leaderboard.

Pure numerics: it knows arrays of compute, loss and seconds, and no database. `import storage.laws` loads
numpy and scipy.
"""

from __future__ import annotations

from storage.laws.book import Book, laws
from storage.laws.chinchilla import LossSurface, fit_surface
from storage.laws.forecast import HoldOut, hold_out
from storage.laws.frontier import PointReport
from storage.laws.law_set import DENSE, LawSet, StructureLaw
from storage.laws.multiplier import log_multiplier, log_multipliers, run_value
from storage.laws.power_law import PowerLaw
from storage.laws.run import Run
from storage.laws.standings import Standing, leaderboard, rank
from storage.laws.surface import SurfaceLaw, surface_law

__all__ = [
    "DENSE",
    "Book",
    "HoldOut",
    "LawSet",
    "LossSurface",
    "PointReport",
    "PowerLaw",
    "Run",
    "Standing",
    "StructureLaw",
    "SurfaceLaw",
    "fit_surface",
    "hold_out",
    "laws",
    "leaderboard",
    "log_multiplier",
    "log_multipliers",
    "rank",
    "run_value",
    "surface_law",
]
