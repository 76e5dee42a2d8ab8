"""Records as a card may show them: checked, without folders or tokens, and with words where a number is missing."""

import json
import math
import re
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult

from ..common.files import NOT_MEASURED
from ..finetuning.report import markdown_table
from ..finetuning.tasks import TASKS


# Published limits of power in watts, from the makers' data sheets, by the name that torch gives the device.
_WATTS = {
    "Tesla T4": 70,
    "Tesla V100-SXM2-16GB": 300,
    "Tesla V100-SXM2-32GB": 300,
    "NVIDIA A100-PCIE-40GB": 250,
    "NVIDIA A100 80GB PCIe": 300,
    "NVIDIA A100-SXM4-40GB": 400,
    "NVIDIA A100-SXM4-80GB": 400,
    "NVIDIA H100 PCIe": 350,
    "NVIDIA H100 80GB HBM3": 700,
    "NVIDIA H200": 700,
    "NVIDIA L4": 72,
    "NVIDIA L40S": 350,
    "NVIDIA GeForce RTX 3090": 350,
    "NVIDIA GeForce RTX 4090": 450,
}
# By the Hub's names; counts and scores of single classes stay in the record.
_METRIC_TYPES = {
    **{name: name for name in ("accuracy", "f1", "precision", "recall", "matthews_correlation", "exact_match")},
    **{name: name for name in ("bleu", "chrf", "rouge1", "rouge2", "rougeL", "rougeLsum")},
    **{name: "f1" for name in ("f1_micro", "f1_macro")},
    "exact_match_accuracy": "accuracy",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
}


def number(record: Any, *keys: str) -> int | float | None:
    """The number under nested keys; `None` where there is none."""
    for key in keys:
        record = record.get(key) if isinstance(record, dict) else None
    return record if isinstance(record, int | float) and not isinstance(record, bool) else None


def measured(value: Any, form: str = "{:,}") -> str:
    """A number in a form, or a word of a record; `None` is not measured."""
    if value is None:
        return NOT_MEASURED
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, int | float):
        return bare(value)
    return form.format(value) if math.isfinite(value) else "not finite"


def file_name(path: str) -> str:
    """The last part of a path of any system."""
    return bare(re.split(r"[\\/]", path.rstrip("\\/"))[-1])


def bare(value: Any) -> str:
    """One line of plain text that cannot break a table, with no folder and no token in it."""
    return one_line(re.sub(r"\bhf_\w+|[^\s'\"(]*[\\/]", "", " ".join(str(value).split())))


def one_line(value: Any) -> str:
    """Plain text that cannot break a table."""
    text = " ".join(str(value).split()).replace("|", "\\|").replace("`", "'").replace("<", "&lt;")
    # Links and pictures of a record's own would be live in the card.
    return text.replace("](", "&#93;(").replace("][", "&#93;&#91;").replace("![", "!&#91;")


def read_record(path: str | Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: for a file that holds no such thing.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {type(content).__name__}; a record is an object")
    return content


def energy(device: Any, hours: float | None, processes: float | None) -> str:
    """An upper estimate in words, where the limit of the device, the time and the number of devices are known."""
    watts = _WATTS.get(device) if isinstance(device, str) else None
    if watts is None or hours is None or processes is None:
        return NOT_MEASURED
    return (
        f"at most {watts * hours * processes / 1000:.3g} kWh for the accelerators, not measured: {processes} x "
        f"{watts} W, their published limit, x {hours:.2f} hours"
    )


def checked_record(record: dict[str, Any]) -> dict[str, Any]:
    """A record of fine-tuning without the folders that its data lay in.

    Raises:
        ValueError: for a record of something else.
    """
    try:
        data = record["data"]
        stand_ins = dict(data["stand_ins"])
        for split, text in stand_ins.items():
            # What is held out of the training file is named in words that quote its path.
            for path in (path for other, path in data["sources"].items() if other != split):
                text = text.replace(path, file_name(path))
            stand_ins[split] = bare(text)
        cleaned = {**record, "task": file_name(record["task"]), "data": {**data, "stand_ins": stand_ins}}
        markdown_table([cleaned])
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"this is no record of electra-rtd finetune ({error!r}): {str(record)[:60]}") from None
    return cleaned


def check_weights(records: list[dict[str, Any]], known: set[str]) -> list[str]:
    """Names of tasks whose record does not say which weights it began with.

    Args:
        known: hashes of the weights that fine-tuning of this release begins with.

    Raises:
        ValueError: for a record of other weights, and for two records of one task.
    """
    tasks = [record["task"] for record in records]
    for record in records:
        task, weights = record["task"], record.get("weights_sha256")
        if tasks.count(task) > 1:
            raise ValueError(f"results hold {tasks.count(task)} records of {task!r}; give one of each task")
        if weights is not None and weights not in known:
            raise ValueError(f"the record of {task!r} began with other weights ({weights[:12]}) than this release's")
    return [record["task"] for record in records if record.get("weights_sha256") is None]


def hub_results(record: dict[str, Any]) -> list[EvalResult]:
    """Medians of every seed for the Hub, where the examples were those of a dataset there."""
    # Here, because a trainer that pushes needs no heads of tasks.
    from ..finetuning.kinds.table import KINDS

    task = TASKS.get(record["task"])
    if task is None or task.hub_dataset is None or task.kind != record["kind"]:
        return []
    results = []
    failed = len(record["fine_tuned"]["failed_seeds"])
    for split in record["validation_splits"]:
        source = record["data"]["sources"].get(split, "")
        is_official = source.startswith(task.hub_dataset) or (
            split in task.files and source.endswith(task.files[split].names)
        )
        if split in record["data"]["stand_ins"] or not is_official:
            continue
        for metric, values in record["fine_tuned"]["summary"][split].items():
            if metric not in _METRIC_TYPES:
                continue
            seeds = values["seeds"]
            spread = f"median of {seeds} seed{'s' if seeds > 1 else ''}"
            spread += f", {failed} of them failed" if failed else ""
            results.append(
                EvalResult(
                    task_type=KINDS[task.kind].hub_task_type,
                    dataset_type=task.hub_dataset,
                    dataset_name=f"GLUE {task.folder}" if task.hub_dataset == "nyu-mll/glue" else task.name,
                    dataset_config=task.hub_config,
                    dataset_split=task.hub_splits.get(split, split),
                    metric_type=_METRIC_TYPES[metric],
                    metric_name=f"{task.name}: {metric}, {spread}",
                    metric_value=values["median"],
                )
            )
    return results


def tuning_row(record: dict[str, Any]) -> dict[str, Any]:
    """How a task was fine-tuned."""
    seconds = number(record, "seconds")
    settings = record.get("settings", {})
    return {
        "task": record["task"],
        "seeds": ", ".join(str(run["seed"]) for run in record["fine_tuned"]["runs"]) or None,
        "epochs": number(settings, "num_train_epochs"),
        "learning_rate": number(settings, "learning_rate"),
        "decay": number(settings, "layerwise_lr_decay"),
        "batch": number(settings, "per_device_train_batch_size"),
        "positions": number(settings, "max_length"),
        "minutes": None if seconds is None else seconds / 60,
        "device": record.get("device"),
    }
