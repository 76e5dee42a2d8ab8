"""A fine-tuning recipe: fields of `FinetuningArguments` and the options of the kinds of tasks, in one flat dict."""

import dataclasses
import typing
from typing import Any

from ..common.recipe_files import read_sections
from .kinds.table import KINDS
from .tasks import Task
from .training_args import FinetuningArguments


# Fields that a run sets itself.
_TAKEN = {
    "output_dir": "is given on the command line: --output-dir",
    "seed": "is given on the command line: --seeds",
    "data_seed": "is the seed's: --seeds",
    "metric_for_best_model": "is the task's",
    "greater_is_better": "is the metric's",
    "predict_with_generate": "is the task's",
}


def read_finetuning_recipe(name: str | None, overrides: dict[str, str] | None = None) -> dict[str, Any]:
    """The values of a YAML with the sections `training` and `task`, and of options, checked.

    Args:
        name: path or shipped name; `None` for a recipe without a file.
        overrides: `{field: value}` of either section, values as text.

    Raises:
        ValueError: in one line, for an unknown key, a wrong type or an impossible combination.
    """
    sections = {"training": FinetuningArguments, "task": _any_kind()}
    read = read_sections(name, "finetune", sections, overrides)
    for taken, instead in _TAKEN.items():
        if taken in read["training"]:
            raise ValueError(f"{taken} {instead}")
    try:
        FinetuningArguments(**read["training"])
    except (TypeError, ImportError) as error:
        raise ValueError(f"training: {' '.join(str(error).split())}") from None
    return read["training"] | read["task"]


def kind_options(values: dict[str, Any], task: Task) -> tuple[dict[str, Any], dict[str, Any]]:
    """The part of a recipe that is for the trainer, and the part that is for the task's kind.

    Raises:
        ValueError: for an option of another kind, saying whose it is.
    """
    own, training = {}, {}
    for name, value in values.items():
        owners = [kind for kind, made in KINDS.items() if name in made.options()]
        if not owners:
            training[name] = value
        elif task.kind in owners:
            own[name] = value
        else:
            raise ValueError(f"{name} is an option of {' and '.join(owners)}; {task.name} is {task.kind}")
    return training, own


def _any_kind() -> type:
    fields: dict[str, tuple[str, Any, Any]] = {}
    for kind in KINDS.values():
        hints = typing.get_type_hints(kind)
        fields |= {name: (name, hints[name], item.default) for name, item in kind.options().items()}
    return dataclasses.make_dataclass("TaskOptions", fields.values())
