"""The curves are drawn, from training and held-out logs, and nothing is drawn from nothing."""

import subprocess
import sys

import pytest
from matplotlib.figure import Figure

from modeling_electra_rtd.pretraining.plots import plot_curves


def entry(step: int, prefix: str = "") -> dict:
    names = (
        "generator_loss",
        "discriminator_loss",
        "discriminator_auc",
        "discriminator_precision",
        "discriminator_recall",
        "mlm_accuracy",
        "replaced_rate",
    )
    return {"step": step, **{prefix + name: 1 / (step + 1) for name in names}}


def test_a_picture_of_the_curves(tmp_path):
    path = tmp_path / "curves.png"
    history = [entry(step) | {"grad_norm": 1.0} for step in range(5)] + [entry(2, "eval_"), entry(4, "eval_")]
    assert plot_curves(history, path, "a run")
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 20_000


@pytest.mark.parametrize(
    ("metrics", "titles"),
    [
        (["discriminator_loss", "discriminator_auc", "grad_norm"], ["Discriminator loss", "AUC", "Gradient norm"]),
        (["masked_lm_loss"], ["Masked-LM loss"]),
        (["discriminator_precision", "discriminator_recall"], ["Precision and recall on replaced tokens"]),
        (["replaced_rate"], ["Replaced rate"]),
    ],
)
def test_an_objective_without_a_generator_has_its_own_panels(metrics, titles, tmp_path, monkeypatch):
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *args, **kw: (drawn.append(figure), save(figure, *args, **kw))
    )
    history = [{"step": step, **dict.fromkeys(metrics, 1.0 / (step + 1))} for step in range(3)]
    assert plot_curves(history, tmp_path / "curves.png", "a run") and (tmp_path / "curves.png").is_file()
    shown = [axis for axis in drawn[0].axes if axis.has_data()]
    assert len(shown) == len(titles)
    assert all(axis.get_title().startswith(title) for axis, title in zip(shown, titles, strict=True))


def test_no_picture_without_logs(tmp_path):
    assert not plot_curves([{"step": 1, "train_runtime": 2.0}], tmp_path / "curves.png", "a run")
    assert not (tmp_path / "curves.png").exists()


# What a user's notebook does: chooses a backend, imports all there is of this package, trains, pushes, draws.
NOTEBOOK = """
import sys
import matplotlib
matplotlib.use("svg")
import modeling_electra_rtd as package
for name in package.__all__:
    getattr(package, name)
import modeling_electra_rtd.finetuning.report
import modeling_electra_rtd.sharing.export
import modeling_electra_rtd.sharing.model_push
assert "matplotlib.pyplot" not in sys.modules and "sklearn" not in sys.modules, "imported for nothing"
from modeling_electra_rtd.pretraining.plots import plot_curves
assert plot_curves([{"step": 1, "generator_loss": 1.0}], sys.argv[1], "a run")
assert matplotlib.get_backend().lower() == "svg", matplotlib.get_backend()
"""


def test_the_users_matplotlib_stays_as_it_is(tmp_path):
    command = [sys.executable, "-c", NOTEBOOK, str(tmp_path / "curves.png")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
