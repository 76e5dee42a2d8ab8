"""One folder for each metric, which `evaluate.load` takes as it is."""
