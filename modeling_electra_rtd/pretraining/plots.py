"""The curves of a run, drawn from its log history."""

from pathlib import Path
from typing import Any


_COLUMNS = 3
# One panel each, where the objective has it: metrics of the training log, and what the title calls them; the held-out
# twin of a metric is named eval_<metric>.
_PANELS = (
    {"generator_loss": "generator loss (nats)"},
    {"discriminator_loss": "discriminator loss (nats)"},
    {"masked_lm_loss": "masked-LM loss of the discriminator (nats)"},
    {"discriminator_auc": "AUC on replaced tokens"},
    {"discriminator_precision": "precision", "discriminator_recall": "recall on replaced tokens"},
    {"mlm_accuracy": "masked-LM accuracy", "replaced_rate": "replaced rate"},
    {"grad_norm": "gradient norm"},
)


def plot_curves(log_history: list[dict[str, Any]], path: str | Path, title: str) -> bool:
    """Draw training and held-out curves over steps into a PNG.

    Args:
        log_history: `trainer.state.log_history`.

    Returns:
        Whether there was anything to draw.
    """
    logged = {name.removeprefix("eval_") for entry in log_history for name in entry}
    panels = [{metric: name for metric, name in panel.items() if metric in logged} for panel in _PANELS]
    panels = [panel for panel in panels if panel]
    if not panels:
        return False
    # Here, because a trainer that draws nothing needs none of it; without pyplot, whose backend is the user's.
    from matplotlib.figure import Figure

    rows = -(-len(panels) // _COLUMNS)
    figure = Figure(figsize=(15, 4 * rows), layout="constrained")
    axes = figure.subplots(rows, _COLUMNS, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, panel in zip(axes.flat[: len(panels)], panels, strict=True):
        for number, metric in enumerate(panel):
            label = metric.removeprefix("discriminator_").replace("_", " ")
            color = f"C{number}"
            for prefix, style in (("", {"alpha": 0.45, "linewidth": 1}), ("eval_", {"marker": "o", "markersize": 3})):
                points = [(entry["step"], entry[prefix + metric]) for entry in log_history if prefix + metric in entry]
                if points:
                    kind = "held out" if prefix else "training"
                    axis.plot(*zip(*points, strict=True), color=color, label=f"{label}, {kind}", **style)
        names = " and ".join(panel.values())
        axis.set_title(names[0].upper() + names[1:])
        axis.set_xlabel("optimizer step")
        axis.grid(alpha=0.3)
        if axis.has_data():
            axis.legend(fontsize=8)
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
    return True
