"""What the JSON interface answers with. Losses in nats per token, compute in FLOPs, times in epoch seconds."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    """Root of the answers."""

    model_config = ConfigDict(from_attributes=True)


class Problem(Model):
    """Why there is no answer."""

    detail: str


class DriverAnswer(Model):
    """A driver and its lease; `age` in seconds since it was last heard of."""

    id: int
    host: str
    pid: int
    state: str
    joined: float
    age: float
    overdue: bool
    holds: list[int]


class Cause(Model):
    """Attempts that ended the same way."""

    state: str
    cause: str
    attempts: int


class StudyStatus(Model):
    """How a study stands; `rate` is trials per hour, `left` seconds to its end at that rate."""

    id: int
    name: str
    budget: int
    target_compute: float
    states: dict[str, int]
    done: int
    flops: float
    seconds: float
    rate: float | None
    left: float | None
    causes: list[Cause]
    drivers: list[DriverAnswer]
    now: float
    versions: dict[str, str] = Field(description="Change whenever the trials, or the drivers, do.")


class TrialRow(Model):
    """A trial in the table."""

    number: int
    kind: str
    state: str
    structure: str | None
    key: str | None
    omega: float | None
    psi: float | None
    nu: float | None
    rung: int | None
    width: int | None
    attempts: int
    steps: int
    tokens: int
    flops: float
    loss: float | None
    value: float | None = Field(description="Log compute multiplier at the compute that the trial spent.")
    seconds: float
    created: float
    finished: float | None


class TrialTable(Model):
    """One page of trials, how many match, and how many pages they fill."""

    trials: list[TrialRow]
    matching: int
    page: int
    pages: int


class TrialAnswer(Model):
    """All that is recorded of a trial."""

    trial: dict[str, Any]
    structure: dict[str, Any] | None
    attempts: list[dict[str, Any]]
    points: list[dict[str, Any]]
    coordinates: list[dict[str, Any]]


class Leaderboard(Model):
    """The leaderboard and the laws, or why there are none. `fresh`: of the results as they are now."""

    fresh: bool
    problem: str
    structures: list[dict[str, Any]]
    laws: dict[str, Any] | None
    forecast: dict[str, Any] | None
    surface: dict[str, Any] | None


class StructureAnswer(Model):
    """A structure realised at a size; `einsum` for operands X and the factors in order."""

    name: str
    key: str
    theta: list[float]
    omega: float
    psi: float
    nu: float
    d_in: int
    d_out: int
    sizes: dict[str, int]
    einsum: str
    params: int
    macs: int


class PlotAnswer(Model):
    """A plotly figure in the light colours; arrays are plain lists."""

    name: str
    title: str
    caption: str
    version: str
    figure: dict[str, Any]
