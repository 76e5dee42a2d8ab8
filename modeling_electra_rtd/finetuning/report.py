"""What fine-tuning is reported as: medians and spread next to baselines, never a best run alone."""

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any


# Pictures are drawn without pyplot, whose backend and open figures are the user's own, and what they need is imported
# with them: a card only wants the table.

# More classes than this make a confusion matrix that nobody can read.
_MAXIMUM_CLASSES = 40


def aggregate(runs: list[dict[str, Any]], split: str) -> dict[str, dict[str, float]]:
    """`{metric: {median, mean, standard_deviation, seeds}}` of one split over all runs, failed ones included.

    The standard deviation is the sample's (n - 1), and `None` for a single run.
    """
    found = {}
    for name, value in runs[0]["metrics"][split].items() if runs else ():
        if not isinstance(value, int | float):
            continue
        values = [run["metrics"][split][name] for run in runs]
        found[name] = {
            "median": statistics.median(values),
            "mean": statistics.fmean(values),
            "standard_deviation": statistics.stdev(values) if len(values) > 1 else None,
            "seeds": len(values),
        }
    return found


def median_run(runs: list[dict[str, Any]], split: str, headline: str) -> dict[str, Any]:
    """The run in the middle by the headline (of two, the lower): what is shown and submitted, instead of the best."""
    ranked = sorted(runs, key=lambda run: run["metrics"][split][headline])
    return ranked[(len(ranked) - 1) // 2]


def markdown_table(records: list[dict[str, Any]], left_out: Iterable[str] = ()) -> str:
    """One row for each task and validation split: fine-tuned next to from scratch and the trivial guess.

    Args:
        records: what `run.finetune` returned.
        left_out: what to say of tasks that were not run.
    """
    lines = [
        "| task | metric | median | mean ± std | seeds | failed | from scratch | trivial guess | train |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        headline = record["headline"]
        for split in record["validation_splits"]:
            tuned = record["fine_tuned"]["summary"][split][headline]
            scratch = record["from_scratch"]["summary"].get(split, {}).get(headline)
            spread = tuned["standard_deviation"]
            name = record["task"] + (f" ({split.removeprefix('validation_')})" if split != "validation" else "")
            cells = [
                name + ("\\*" if {"train", split} & set(record["data"]["stand_ins"]) else ""),
                headline,
                f"**{tuned['median']:.4g}**",
                f"{tuned['mean']:.4g}" + ("" if spread is None else f" ± {spread:.2g}"),
                str(tuned["seeds"]),
                str(len(record["fine_tuned"]["failed_seeds"])),
                "not run" if scratch is None else f"{scratch['median']:.4g} ({scratch['seeds']})",
                f"{record['trivial'][split][headline]:.4g}" + _beside(record.get("oracle", {}).get(split), headline),
                f"{record['data']['examples']['train']:,}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    lines += _average(records)
    notes = [
        f"\\* {record['task']}: {split} is {name}, not the official file."
        for record in records
        for split, name in record["data"]["stand_ins"].items()
    ]
    notes += [
        f"{record['task']}: trained on {record['data']['examples']['train']:,} of "
        f"{record['data']['train_available']:,} examples."
        for record in records
        if record["data"]["examples"]["train"] < record["data"].get("train_available", 0)
    ]
    notes += [
        f"{record['task']}, {split}: {cut['count']:,} of {cut['total']:,} {what} {cut['consequence']}."
        for record in records
        for split, found in record["data"].get("cut", {}).items()
        for what, cut in found.items()
    ]
    notes += [f"left out: {text}" for text in left_out]
    notes += [
        f"{record['task']}: failed seeds {', '.join(map(str, record['fine_tuned']['failed_seeds']))} "
        "(every prediction the same, or a loss that is not finite); they count in every median and mean."
        for record in records
        if record["fine_tuned"]["failed_seeds"]
    ]
    notes += [
        f"{record['task']}: from scratch, failed seeds {', '.join(map(str, record['from_scratch']['failed_seeds']))}."
        for record in records
        if record["from_scratch"]["failed_seeds"]
    ]
    if any(record["selected_on_validation"] for record in records):
        notes.append("The checkpoint of each run was selected on the split that is shown here.")
    return "\n".join(lines + [""] * bool(notes) + [f"- {note}" for note in notes]) + "\n"


def _average(records: list[dict[str, Any]]) -> list[str]:
    """The mean of the medians over all tasks but WNLI, which Clark et al. 2020 leave out too; of two validation splits
    the first. Only where all metrics run to 1.
    """
    kept = [record for record in records if record["task"] != "wnli"]
    if len(kept) < 2 or any(record["kind"] not in ("classification", "regression") for record in kept):
        return []

    def mean(part: str) -> str:
        found = [
            record[part]["summary"].get(record["validation_splits"][0], {}).get(record["headline"]) for record in kept
        ]
        return "not run" if None in found else f"{statistics.fmean(score['median'] for score in found):.4g}"

    guesses = [record["trivial"][record["validation_splits"][0]][record["headline"]] for record in kept]
    name = f"average of {len(kept)}" + (" without wnli" if len(kept) < len(records) else "")
    guess = f"{statistics.fmean(guesses):.4g}"
    return [f"| {name} | | **{mean('fine_tuned')}** | | | | {mean('from_scratch')} | {guess} | |"]


def _beside(oracle: dict[str, float] | None, headline: str) -> str:
    return "" if oracle is None else f" (oracle {oracle[headline]:.4g})"


def plot_runs(record: dict[str, Any], path: Path) -> None:
    """Training loss and held-out headline over epochs, every seed and baseline in one picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    loss, score = figure.subplots(1, 2)
    headline, split = record["headline"], record["validation_splits"][0]
    for kind, name, color in (("fine_tuned", "fine-tuned", "C0"), ("from_scratch", "from scratch", "C1")):
        for number, run in enumerate(record[kind]["runs"]):
            label = name if number == 0 else None
            points = [(entry["epoch"], entry["loss"]) for entry in run["log"] if "loss" in entry]
            if points:
                loss.plot(*zip(*points, strict=True), color=color, alpha=0.6, linewidth=1, label=label)
            held_out = f"eval_{headline}"
            points = [(entry["epoch"], entry[held_out]) for entry in run["log"] if held_out in entry]
            if points:
                score.plot(*zip(*points, strict=True), color=color, marker="o", markersize=3, alpha=0.8, label=label)
    score.axhline(record["trivial"][split][headline], color="0.5", linestyle="--", label="trivial guess")
    loss.set_title("Training loss")
    score.set_title(f"Held-out {headline.replace('_', ' ')}")
    for axis in (loss, score):
        axis.set_xlabel("epoch")
        # A run of one epoch is evaluated once: without a beginning its axis would zoom into that point.
        axis.set_xlim(left=0)
        axis.grid(alpha=0.3)
        if axis.has_data():
            axis.legend(fontsize=8)
    figure.suptitle(record["task"])
    figure.savefig(path, dpi=110)


def plot_confusion(references: list[str], predictions: list[str], labels: list[str], path: Path) -> bool:
    """The confusion matrix of the median run, rows normalised, as a PNG; not drawn where nobody could read it.

    Returns:
        Whether it was drawn.
    """
    if not 2 <= len(labels) <= _MAXIMUM_CLASSES:
        return False
    from matplotlib.figure import Figure
    from sklearn.metrics import ConfusionMatrixDisplay

    size = 3.5 + 0.45 * len(labels)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axis = figure.subplots()
    ConfusionMatrixDisplay.from_predictions(
        references,
        predictions,
        labels=labels,
        normalize="true",
        include_values=len(labels) <= 12,
        values_format=".2f",
        cmap="Blues",
        xticks_rotation="vertical" if len(labels) > 3 else "horizontal",
        ax=axis,
    )
    figure.savefig(path, dpi=110)
    return True


def plot_label_scores(
    references: list[list[str]], predictions: list[list[str]], labels: list[str], path: Path
) -> bool:
    """Precision, recall and F1 of every label in the median run, as a PNG; not drawn where nobody could read it.

    Returns:
        Whether it was drawn.
    """
    if len(labels) > _MAXIMUM_CLASSES:
        return False
    from matplotlib.figure import Figure
    from sklearn.metrics import precision_recall_fscore_support
    from sklearn.preprocessing import MultiLabelBinarizer

    binarizer = MultiLabelBinarizer(classes=labels)
    scores = precision_recall_fscore_support(
        binarizer.fit_transform(references), binarizer.transform(predictions), average=None, zero_division=0
    )
    figure = Figure(figsize=(7, 1.8 + 0.45 * len(labels)), layout="constrained")
    axis = figure.subplots()
    for offset, (name, values) in enumerate(zip(("precision", "recall", "F1"), scores[:3], strict=True)):
        axis.barh([i + 0.27 * (offset - 1) for i in range(len(labels))], values, height=0.25, label=name)
    counts = [f"{label} ({count})" for label, count in zip(labels, scores[3], strict=True)]
    axis.set_yticks(range(len(labels)), counts)
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.set_title("Labels (texts that have them)")
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    return True
