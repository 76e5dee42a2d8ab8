"""The metric `translations`; its module stands alone, so that `evaluate.load` can copy it."""
