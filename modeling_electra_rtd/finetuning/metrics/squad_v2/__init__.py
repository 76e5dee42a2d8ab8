"""The metric `squad_v2`; its module stands alone, so that `evaluate.load` can copy it."""
