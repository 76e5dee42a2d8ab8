"""The curves are drawn, from training and held-out logs, and nothing is drawn from nothing."""

import pytest

from modeling_electra_rtd.pretraining.plots import plot_curves, pyplot


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
    monkeypatch.setattr(pyplot, "close", drawn.append)
    history = [{"step": step, **dict.fromkeys(metrics, 1.0 / (step + 1))} for step in range(3)]
    assert plot_curves(history, tmp_path / "curves.png", "a run") and (tmp_path / "curves.png").is_file()
    shown = [axis for axis in drawn[0].axes if axis.has_data()]
    assert len(shown) == len(titles)
    assert all(axis.get_title().startswith(title) for axis, title in zip(shown, titles, strict=True))


def test_no_picture_without_logs(tmp_path):
    assert not plot_curves([{"step": 1, "train_runtime": 2.0}], tmp_path / "curves.png", "a run")
    assert not (tmp_path / "curves.png").exists()
