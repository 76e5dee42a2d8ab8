"""Telemetry against scikit-learn and hand counts, and every warning of the health monitor."""

import math

import pytest
import torch
from sklearn.metrics import precision_score, recall_score, roc_auc_score

from modeling_electra_rtd.model.output import ElectraRtdForPreTrainingOutput
from modeling_electra_rtd.pretraining.health import HealthMonitor, RtdTelemetry, counted_tokens, rtd_metrics


def output(logits, replaced, tokens, chosen=None, correct=None, generator_loss=2.0, discriminator_loss=0.5):
    chosen = replaced if chosen is None else chosen
    return ElectraRtdForPreTrainingOutput(
        generator_loss=torch.tensor(generator_loss),
        discriminator_loss=torch.tensor(discriminator_loss),
        logits=logits,
        is_replaced=replaced,
        is_chosen=chosen,
        generator_is_correct=torch.zeros_like(replaced) if correct is None else correct,
        token_mask=tokens,
        loss_terms=torch.stack([chosen.sum(), tokens.sum(), tokens.sum()]).float(),
    )


def test_metrics_equal_scikit_learn_over_several_batches():
    random = torch.Generator().manual_seed(0)
    telemetry, scores, labels = RtdTelemetry("cpu"), [], []
    for rows in (3, 5):
        replaced = torch.rand(rows, 40, generator=random) < 0.2
        logits = torch.randn(rows, 40, generator=random) * 3 + 1.5 * replaced - 1
        tokens = torch.rand(rows, 40, generator=random) < 0.9
        telemetry.add(output(logits, replaced & tokens, tokens))
        scores.append(logits[tokens])
        labels.append(replaced[tokens])
    scores, labels = torch.cat(scores).numpy(), torch.cat(labels).numpy()
    metrics = rtd_metrics(telemetry.packed())
    assert metrics["discriminator_auc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-3)
    assert metrics["discriminator_precision"] == pytest.approx(precision_score(labels, scores > 0))
    assert metrics["discriminator_recall"] == pytest.approx(recall_score(labels, scores > 0))
    assert metrics["replaced_rate"] == pytest.approx(labels.mean())
    assert counted_tokens(telemetry.packed()) == len(labels)


def test_losses_are_weighted_by_their_terms():
    telemetry = RtdTelemetry("cpu")
    replaced = torch.tensor([[True, False, False, False]])
    telemetry.add(output(torch.zeros(1, 4), replaced, torch.ones(1, 4, dtype=torch.bool), generator_loss=1.0))
    both = torch.tensor([[True, True, True, False]])
    tokens = torch.tensor([[True, True, True, False]])
    telemetry.add(output(torch.zeros(1, 4), both, tokens, generator_loss=5.0, discriminator_loss=0.1))
    metrics = rtd_metrics(telemetry.packed())
    assert metrics["generator_loss"] == pytest.approx((1 * 1.0 + 3 * 5.0) / 4)
    assert metrics["discriminator_loss"] == pytest.approx((4 * 0.5 + 3 * 0.1) / 7)


@pytest.mark.parametrize("constant", [-30.0, 0.0, 30.0])
def test_a_constant_prediction_has_an_auc_of_one_half(constant):
    telemetry = RtdTelemetry("cpu")
    replaced = torch.tensor([[True, False, True, False]])
    telemetry.add(output(torch.full((1, 4), constant), replaced, torch.ones(1, 4, dtype=torch.bool)))
    assert rtd_metrics(telemetry.packed())["discriminator_auc"] == 0.5


def test_one_class_only_and_nothing_at_all_are_not_errors():
    telemetry = RtdTelemetry("cpu")
    empty = rtd_metrics(telemetry.packed())
    assert empty["discriminator_auc"] == 0.5 and empty["generator_loss"] == 0
    tokens = torch.ones(1, 4, dtype=torch.bool)
    telemetry.add(output(torch.randn(1, 4), torch.zeros(1, 4, dtype=torch.bool), tokens))
    assert rtd_metrics(telemetry.packed())["discriminator_auc"] == 0.5


def test_padding_is_not_counted():
    telemetry = RtdTelemetry("cpu")
    tokens = torch.tensor([[True, True, False, False]])
    replaced = torch.tensor([[True, False, False, False]])
    telemetry.add(output(torch.tensor([[2.0, -2.0, 9.0, 9.0]]), replaced, tokens))
    metrics = rtd_metrics(telemetry.packed())
    assert metrics["discriminator_precision"] == metrics["discriminator_recall"] == metrics["discriminator_auc"] == 1
    assert counted_tokens(telemetry.packed()) == 2


def test_sums_survive_a_checkpoint():
    telemetry, other = RtdTelemetry("cpu"), RtdTelemetry("cpu")
    replaced = torch.tensor([[True, False]])
    telemetry.add(output(torch.tensor([[1.0, -1.0]]), replaced, torch.ones(1, 2, dtype=torch.bool)))
    other.load(telemetry.packed())
    assert rtd_metrics(other.packed()) == rtd_metrics(telemetry.packed())
    other.reset()
    assert counted_tokens(other.packed()) == 0 and counted_tokens(telemetry.packed()) == 2


HEALTHY = {
    "loss": 20.0,
    "generator_loss": 4.0,
    "discriminator_loss": 0.3,
    "mlm_accuracy": 0.3,
    "replaced_rate": 0.1,
    "discriminator_precision": 0.6,
    "discriminator_recall": 0.3,
    "discriminator_auc": 0.8,
    "grad_norm": 1.0,
}


@pytest.mark.parametrize(
    ("change", "logs_needed", "said"),
    [
        ({"loss": math.nan}, 1, "not finite"),
        ({"grad_norm": math.inf}, 1, "not finite"),
        ({"discriminator_recall": 0.0, "discriminator_auc": 0.5}, 20, "every token original"),
        ({"discriminator_recall": 1.0, "discriminator_precision": 0.1}, 5, "every token replaced"),
        ({"mlm_accuracy": 0.9}, 5, "smaller generator"),
        ({"generator_loss": 10.2}, 5, "near chance"),
    ],
)
def test_each_problem_is_reported_once_when_it_lasts(change, logs_needed, said):
    monitor = HealthMonitor(vocab_size=30522)
    sick = {**HEALTHY, **change}
    for log in range(1, logs_needed):
        assert monitor.check(sick, log, warmed_up=True) == []
    (warning,) = monitor.check(sick, logs_needed, warmed_up=True)
    assert said in warning and f"step {logs_needed}" in warning
    assert monitor.check(sick, logs_needed + 1, warmed_up=True) == []
    assert monitor.check(HEALTHY, logs_needed + 2, warmed_up=True) == []
    for log in range(1, logs_needed):
        assert monitor.check(sick, log, warmed_up=True) == []
    assert len(monitor.check(sick, logs_needed, warmed_up=True)) == 1


def test_a_healthy_run_and_a_warm_up_say_nothing():
    monitor = HealthMonitor(vocab_size=30522)
    for step in range(50):
        assert monitor.check(HEALTHY, step, warmed_up=True) == []
        assert monitor.check({**HEALTHY, "generator_loss": 10.3}, step, warmed_up=False) == []
