"""The curves are drawn, from training and held-out logs, and nothing is drawn from nothing."""

import os
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


# With a backend that the user chose, and nothing of it loaded by an import.
USE = """
import sys
import matplotlib
matplotlib.use("svg")

import modeling_electra_rtd
for name in modeling_electra_rtd.__all__:
    getattr(modeling_electra_rtd, name)
import modeling_electra_rtd.cli, modeling_electra_rtd.finetuning.run, modeling_electra_rtd.finetuning.suite
import modeling_electra_rtd.pretraining.run, modeling_electra_rtd.pretraining.trainer, modeling_electra_rtd.quickstart
import modeling_electra_rtd.release.export, modeling_electra_rtd.release.card
import modeling_electra_rtd.release.from_memory
assert "matplotlib.pyplot" not in sys.modules
assert "matplotlib.figure" not in sys.modules
assert matplotlib.get_backend() == "svg", matplotlib.get_backend()

from matplotlib import pyplot
from modeling_electra_rtd.finetuning.report import plot_confusion, plot_runs
from modeling_electra_rtd.pretraining.plots import plot_curves
pyplot.figure("of the user")
assert plot_curves([{"step": 1, "generator_loss": 2.0}], "curves.png", "a run")
assert plot_confusion(["a", "b"], ["a", "a"], ["a", "b"], "confusion.png")
kind = {"runs": [{"log": [{"epoch": 1.0, "loss": 1.0}]}]}
plot_runs({"task": "toy", "headline": "accuracy", "validation_splits": ["validation"], "fine_tuned": kind,
           "from_scratch": kind, "trivial": {"validation": {"accuracy": 0.5}}}, "runs.png")
assert pyplot.get_figlabels() == ["of the user"]
assert matplotlib.get_backend() == "svg", matplotlib.get_backend()
for name in ("curves", "confusion", "runs"):
    assert open(f"{name}.png", "rb").read(4) == bytes([0x89]) + b"PNG"
"""


@pytest.mark.slow
def test_the_backend_and_the_figures_of_the_user_stay_as_they_are(tmp_path):
    # The folder that the package of this test lies in, from another folder.
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    environment.pop("MPLBACKEND")
    done = subprocess.run([sys.executable, "-c", USE], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
