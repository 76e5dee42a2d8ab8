"""Tasks: a checkpoint fine-tuned on labelled examples, seed by seed, beside its baselines."""
