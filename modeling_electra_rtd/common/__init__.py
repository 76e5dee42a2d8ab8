"""Used by every wing after the model: names of models and files, recipes, the machine, progress."""
