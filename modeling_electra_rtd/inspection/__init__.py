"""A look at what a model sees: tokens, scores, minimal pairs, a demo and a pipeline."""
