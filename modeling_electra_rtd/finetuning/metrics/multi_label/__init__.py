"""The metric `tags`; its module stands alone, so that `evaluate.load` can copy it."""
