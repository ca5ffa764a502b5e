"""What to try next: the study, its plan, the sampler that steers it, and the executor that runs its trials."""
