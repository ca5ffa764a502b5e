"""einsearch: which structured linear layer gives the lowest loss per FLOP?

    einsearch.Structure              a point of the space: parse, taxonomy, realisation
    einsearch.EinsumLinear           the layer, a drop-in for torch.nn.Linear
    einsearch.structure_linears      replaces the linear layers of a model
    einsearch.project                the structured layer closest to a dense matrix
    einsearch.describe_model         what a model is made of: layers, FLOPs, parameters
    einsearch.Study                  a search, by name, in a database

Each is imported when it is first used: `import einsearch` alone loads neither torch nor ray.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.settings import Rung, StudySettings
    from search.study import Study
    from space.errors import EinsearchError
    from space.structure import Structure
    from trainers.config import TrialConfig
    from trainers.drop_in import structure_linears
    from trainers.layers import EinsumLinear
    from trainers.model_table import describe_model
    from trainers.project import project, relative_error

_HOMES = {
    "EinsearchError": "space.errors",
    "EinsumLinear": "trainers.layers",
    "Rung": "search.settings",
    "Structure": "space.structure",
    "Study": "search.study",
    "StudySettings": "search.settings",
    "TrialConfig": "trainers.config",
    "describe_model": "trainers.model_table",
    "project": "trainers.project",
    "relative_error": "trainers.project",
    "structure_linears": "trainers.drop_in",
}

__all__ = [
    "EinsearchError",
    "EinsumLinear",
    "Rung",
    "Structure",
    "Study",
    "StudySettings",
    "TrialConfig",
    "describe_model",
    "project",
    "relative_error",
    "structure_linears",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'einsearch' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
