"""The metric `classification`; its module stands alone, so that `evaluate.load` can copy it."""
