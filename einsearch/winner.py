"""Taking the winner home: a PyTorch module with the structure built in, its provenance, and trained weights."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from einsearch.output import json_value, record, write_whole
from space.errors import DiskError, StudyError
from space.structure import Structure

if TYPE_CHECKING:
    import pandas as pd

    from search.study import Study

MODULE = '''"""{name}: the leader of the study {study!r}.

Compute multiplier against dense at {target:.3g} FLOPs: {multiplier:.2f} [{low:.2f}, {high:.2f}] (90 % interval; {verdict}).
Needs the package einsearch. To use the structure in a model of your own:

    from einsearch import structure_linears
    structure_linears(model, STRUCTURE, skip=["lm_head"])
"""

from einsearch import EinsumLinear

STRUCTURE = {key!r}


class Winner(EinsumLinear):
    """A drop-in for torch.nn.Linear with the structure built in."""

    def __init__(self, d_in, d_out, bias=False, **options):
        super().__init__(d_in, d_out, STRUCTURE, bias=bias, **options)
'''


def export(study: Study, folder: Path, structure: str | None = None) -> list[Path]:
    """Write winner.py, winner.json and, where its checkpoint is at hand, winner.pt; return what was written.

    winner.pt holds {"config": ..., "model": state_dict} of the structure's best trial; load it with weights_only=True.

    Args:
        structure: the structure to export; None for the leaderboard's first that is not dense.

    Raises:
        StudyError: the study is unknown, or has no result for the structure.
        DiskError: a file cannot be written.
    """
    row = _row(study, study.leaderboard(), structure)
    target = study.record().target_compute
    module = MODULE.format(
        name=row["structure"],
        study=study.name,
        target=target,
        multiplier=row["multiplier"],
        low=row["multiplier_low"],
        high=row["multiplier_high"],
        verdict=row["verdict"],
        key=row["key"],
    )
    facts = {"study": study.name, "target_compute": target} | record(row)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiskError(f"{folder} cannot be made ({error.strerror}); give another folder with -o") from error
    write_whole(folder / "winner.py", module.encode())
    write_whole(folder / "winner.json", (json.dumps(json_value(facts), indent=2) + "\n").encode())
    return [folder / "winner.py", folder / "winner.json", *_weights(study, str(row["key"]), folder / "winner.pt")]


def _row(study: Study, board: pd.DataFrame, structure: str | None) -> dict[str, Any]:
    key = Structure.parse(structure).key if structure is not None else None
    rows = board[board["key"] == key] if key is not None else board[board["key"] != "dense"]
    if rows.empty:
        what = f"of {structure}" if structure is not None else "but of dense"
        raise StudyError(f"study {study.name!r} has no result {what} yet; see `einsearch leaderboard {study.name}`")
    return {str(name): value for name, value in rows.iloc[0].to_dict().items()}


def _weights(study: Study, key: str, path: Path) -> list[Path]:
    """The weights of the structure's trial with the lowest loss, where its checkpoint can be reached."""
    import torch

    from search.vault import load_furthest

    trials = study.trials_frame()
    done = trials[(trials["key"] == key) & (trials["state"] == "completed")].sort_values("loss")
    for number in done["number"]:
        state = load_furthest(study.trial_place(int(number)))
        if state is not None and state["config"]["structure"] == key:
            content = io.BytesIO()
            torch.save({"config": state["config"], "model": state["model"]}, content)
            write_whole(path, content.getvalue())
            return [path]
    return []
