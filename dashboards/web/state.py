"""What all routes share: the open database, its snapshots, its fits, and Optuna's dashboard beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from fastapi import Request

from dashboards.web.fitting import Fitting
from dashboards.web.watch import Watch
from storage.database import Database

if TYPE_CHECKING:
    from dashboards.web.optuna_views import OptunaViews


@dataclass(frozen=True)
class State:
    """One for each application; `foresight` is None where no model of a search can be asked."""

    database: Database
    watch: Watch
    fitting: Fitting
    foresight: Fitting | None
    optuna: OptunaViews

    def versions(self, study: int) -> dict[str, str]:
        """What a page compares to know whether it is up to date."""
        fits = self.fitting.state() + (self.foresight.state() if self.foresight is not None else "")
        return self.watch.versions(study) | {"fits": fits}

    def close(self) -> None:
        """End what runs beside the server."""
        self.watch.stop()
        self.fitting.close()
        if self.foresight is not None:
            self.foresight.close()
        self.optuna.close()


def state_of(request: Request) -> State:
    """The state of the application that answers this request."""
    return cast("State", request.app.state.shared)
