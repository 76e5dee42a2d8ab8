"""Pre-training: arguments, optimizer, telemetry, the trainer, recipes, and a run from recipe to checkpoint."""
