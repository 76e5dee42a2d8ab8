"""Metrics, each a folder that `evaluate.load(metric_folder(name))` takes with no network, and a plain function."""

import importlib
from pathlib import Path
from typing import Any

from ..model.suggestions import nearest


METRICS = (
    "classification",
    "correlation",
    "entities",
    "multi_label",
    "squad",
    "squad_v2",
    "summaries",
    "tags",
    "translations",
)


def metric_folder(name: str) -> Path:
    """What `evaluate.load` takes.

    Raises:
        ValueError: for an unknown name, with the nearest known one.
    """
    if name not in METRICS:
        raise ValueError(f"unknown metric {name!r}{nearest(name, METRICS)}")
    return Path(__file__).parent / "metrics" / name


def compute(name: str, predictions: list[Any], references: list[Any], **options: Any) -> dict[str, float]:
    """Scores by the module's function, without the files that an `evaluate` metric writes on the way.

    Raises:
        ValueError: see `metric_folder`, and the metric's own `compute`.
    """
    module = importlib.import_module(f"{__package__}.metrics.{metric_folder(name).name}.{name}")
    return module.compute(predictions, references, **options)
