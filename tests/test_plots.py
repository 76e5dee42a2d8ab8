"""The curves are drawn, from training and held-out logs, and nothing is drawn from nothing."""

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


def test_no_picture_without_logs(tmp_path):
    assert not plot_curves([{"step": 1, "train_runtime": 2.0}], tmp_path / "curves.png", "a run")
    assert not (tmp_path / "curves.png").exists()
