"""Scaling laws of structures: frontiers, power laws, compute multipliers and the leaderboard.

Pure numerics: it knows arrays of compute, loss and seconds, and no database. `import storage.laws` loads
numpy and scipy.
"""

from __future__ import annotations

from storage.laws.chinchilla import LossSurface, fit_surface
from storage.laws.fit import laws
from storage.laws.forecast import HoldOut, hold_out
from storage.laws.law_set import DENSE, LawSet, PointReport, StructureLaw
from storage.laws.multiplier import log_multiplier, run_value
from storage.laws.power_law import PowerLaw, fit_power_law
from storage.laws.run import Run
from storage.laws.standings import Standing, leaderboard, rank

__all__ = [
    "DENSE",
    "HoldOut",
    "LawSet",
    "LossSurface",
    "PointReport",
    "PowerLaw",
    "Run",
    "Standing",
    "StructureLaw",
    "fit_power_law",
    "fit_surface",
    "hold_out",
    "laws",
    "leaderboard",
    "log_multiplier",
    "rank",
    "run_value",
]
