"""What to try next: the study, its plan, the sampler that steers it, and the executor that runs its trials."""

DEFAULT_DB = "sqlite:///einsearch.db"
"""The database where nothing else is said: a file in the working directory."""
