"""Tasks: a checkpoint fine-tuned on labelled examples, seed by seed, next to its baselines."""
