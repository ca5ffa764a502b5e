"""Views and triggers of revision 0002, as SQL of both backends."""

from __future__ import annotations

TRIAL_VIEW = """
CREATE VIEW einsearch_trial_view AS
SELECT s.name AS study, t.number, t.kind, r.name AS structure, r.key, r.factors, r.theta,
       r.theta_xa, r.theta_xb, r.theta_xab, r.theta_ya, r.theta_yb, r.theta_yab, r.theta_ab,
       r.omega, r.psi, r.nu, t.realised_omega, t.realised_psi, t.realised_nu, t.sizes,
       t.rung, t.width, t.state, t.attempts, t.steps, t.tokens, t.flops, t.loss, t.seconds, t.value,
       t.optuna_number, t.origin, t.seed, t.config, t.error, t.created, t.started, t.finished
FROM einsearch_trials t
JOIN einsearch_studies s ON s.id = t.study_id
LEFT JOIN einsearch_structures r ON r.id = t.structure_id
"""

POINT_VIEW = """
CREATE VIEW einsearch_point_view AS
SELECT s.name AS study, t.number, r.name AS structure, r.key, t.kind, t.rung, t.width, t.state,
       p.step, p.tokens, p.flops, p.loss, p.train_loss, p.seconds, p.warmup, p.attempt
FROM einsearch_points p
JOIN einsearch_trials t ON t.id = p.trial_id
JOIN einsearch_studies s ON s.id = t.study_id
LEFT JOIN einsearch_structures r ON r.id = t.structure_id
"""

ATTEMPT_VIEW = """
CREATE VIEW einsearch_attempt_view AS
SELECT s.name AS study, t.number, r.name AS structure, r.key, t.kind, t.rung, t.width, a.attempt, a.state,
       a.start_flops, a.flops, a.start_seconds, a.seconds, a.started, a.ended, a.error, d.host, d.versions
FROM einsearch_attempts a
JOIN einsearch_trials t ON t.id = a.trial_id
JOIN einsearch_studies s ON s.id = t.study_id
JOIN einsearch_drivers d ON d.id = a.driver_id
LEFT JOIN einsearch_structures r ON r.id = t.structure_id
"""

STRUCTURE_VIEW = """
CREATE VIEW einsearch_structure_view AS
SELECT s.name AS study, r.name AS structure, r.key, r.factors, r.theta,
       r.theta_xa, r.theta_xb, r.theta_xab, r.theta_ya, r.theta_yb, r.theta_yab, r.theta_ab,
       r.omega, r.psi, r.nu, c.trials, c.measured, c.diverged, c.failed, c.flops, c.seconds,
       (SELECT MAX(t.value) FROM einsearch_trials t
        WHERE t.study_id = c.study_id AND t.structure_id = c.structure_id AND t.value IS NOT NULL) AS best_value,
       (SELECT MIN(t.loss) FROM einsearch_trials t
        WHERE t.study_id = c.study_id AND t.structure_id = c.structure_id
          AND t.state IN ('completed', 'truncated')) AS best_loss
FROM (SELECT study_id, structure_id, SUM(trials) AS trials,
             SUM(CASE WHEN state IN ('completed', 'truncated') THEN trials ELSE 0 END) AS measured,
             SUM(CASE WHEN state = 'diverged' THEN trials ELSE 0 END) AS diverged,
             SUM(CASE WHEN state = 'failed' THEN trials ELSE 0 END) AS failed,
             SUM(flops) AS flops, SUM(seconds) AS seconds
      FROM einsearch_totals GROUP BY study_id, structure_id) c
JOIN einsearch_studies s ON s.id = c.study_id
JOIN einsearch_structures r ON r.id = c.structure_id
"""

STUDY_VIEW = """
CREATE VIEW einsearch_study_view AS
SELECT s.name AS study, s.budget, COALESCE(c.trials, 0) AS trials, COALESCE(c.done, 0) AS done,
       COALESCE(c.flops, 0.0) AS flops, COALESCE(c.seconds, 0.0) AS seconds, s.seed, s.flop_convention, s.target_compute,
       s.corpus_fingerprint, s.settings, s.versions, s.code_commit, s.created
FROM einsearch_studies s
LEFT JOIN (SELECT study_id, SUM(trials) AS trials,
                  SUM(CASE WHEN state IN ('queued', 'running') THEN 0 ELSE trials END) AS done,
                  SUM(flops) AS flops, SUM(seconds) AS seconds
           FROM einsearch_totals GROUP BY study_id) c ON c.study_id = s.id
"""

VIEWS = {
    "einsearch_trial_view": TRIAL_VIEW,
    "einsearch_point_view": POINT_VIEW,
    "einsearch_attempt_view": ATTEMPT_VIEW,
    "einsearch_structure_view": STRUCTURE_VIEW,
    "einsearch_study_view": STUDY_VIEW,
}

_KEY = "study_id, structure_id, kind, state"
_WATCHED = "study_id, structure_id, kind, state, flops, seconds"
_SAME = (
    "study_id = {row}.study_id AND structure_id = COALESCE({row}.structure_id, 0) AND kind = {row}.kind AND state = {row}.state"
)
_ADD = f"""
INSERT INTO einsearch_totals ({_KEY}, trials, flops, seconds)
VALUES (NEW.study_id, COALESCE(NEW.structure_id, 0), NEW.kind, NEW.state, 1, NEW.flops, NEW.seconds)
ON CONFLICT ({_KEY}) DO UPDATE SET trials = einsearch_totals.trials + 1,
    flops = einsearch_totals.flops + excluded.flops, seconds = einsearch_totals.seconds + excluded.seconds;
"""
# the last trial takes its row with it, so that no remainder of rounding outlives the trials it came from
_TAKE = f"""
DELETE FROM einsearch_totals WHERE trials = 1 AND {_SAME.format(row="OLD")};
UPDATE einsearch_totals SET trials = trials - 1, flops = flops - OLD.flops, seconds = seconds - OLD.seconds
WHERE {_SAME.format(row="OLD")};
"""

_EVENTS = {"insert": ("INSERT", _ADD), "update": (f"UPDATE OF {_WATCHED}", _TAKE + _ADD), "delete": ("DELETE", _TAKE)}


def triggers(dialect: str) -> list[str]:
    """The statements that make `einsearch_totals` follow the trials."""
    made = []
    for name, (event, body) in _EVENTS.items():
        trigger = f"CREATE TRIGGER einsearch_totals_{name} AFTER {event} ON einsearch_trials FOR EACH ROW"
        if dialect == "sqlite":
            made.append(f"{trigger} BEGIN {body} END")
        else:
            function = f"einsearch_totals_{name}()"
            head = f"CREATE FUNCTION {function} RETURNS trigger LANGUAGE plpgsql AS"
            made.append(f"{head} $$ BEGIN {body} RETURN NULL; END $$")
            made.append(f"{trigger} EXECUTE FUNCTION {function}")
    return made


def functions() -> list[str]:
    """The functions that PostgreSQL's triggers call."""
    return [f"einsearch_totals_{name}()" for name in _EVENTS]
