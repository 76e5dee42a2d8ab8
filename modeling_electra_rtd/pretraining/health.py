"""Telemetry of RTD training: sums kept on the device, metrics when they are asked for, and warnings in words."""

import math

import torch
from torch import Tensor

from ..model.objectives import LOSS_POSITIONS
from ..model.output import ElectraRtdForPreTrainingOutput


# Logits are counted in bins of 1/256; AUC is then exact but for pairs within one bin, which count one half.
_BINS = 8192
_LARGEST_LOGIT = 16.0

_LOSSES = ("generator_loss", "discriminator_loss", "masked_lm_loss", "generator_feedback_loss")
# What the losses of replaced-token detection are means over.
_RTD_LOSS_POSITIONS = {"generator_loss": "chosen", "discriminator_loss": "tokens"}

# What a batch adds up to, in the order of the tensor that holds it.
_SUMS = (
    *_LOSSES,
    "batches",
    *LOSS_POSITIONS,
    "generator_correct",
    "recovered",
    "replaced",
    "predicted_replaced",
    "replaced_found",
)


_NOTHING_WRONG = {
    "generator_loss": 0.0,
    "mlm_accuracy": 0.0,
    "discriminator_auc": 1.0,
    "discriminator_recall": 0.5,
    "discriminator_precision": 1.0,
}


class RtdTelemetry:
    """Running sums over batches. Adding a batch launches a few small kernels and never waits for the device.

    Losses are sums over batches weighted by their terms, so the average is that of one large batch.

    Args:
        positions_of_losses: what each loss of the objective is a mean over, of `LOSS_POSITIONS`.
    """

    def __init__(self, device: torch.device | str, positions_of_losses: dict[str, str] = _RTD_LOSS_POSITIONS):
        self._positions_of_losses = positions_of_losses
        # float32 cannot count beyond 2**24 tokens; one backend lacks float64.
        dtype = torch.float32 if torch.device(device).type == "mps" else torch.float64
        self.sums = torch.zeros(len(_SUMS), dtype=dtype, device=device)
        # Row 0 counts the logits of original tokens, row 1 those of replaced ones.
        self.histogram = torch.zeros(2 * _BINS, dtype=dtype, device=device)

    def add(self, output: ElectraRtdForPreTrainingOutput, loss_normalizers: Tensor | None = None) -> None:
        """Count a batch.

        Args:
            loss_normalizers: `(3,)`, what the losses were divided by; `None` if by the batch's own counts.
        """
        tokens, replaced = output.token_mask, output.is_replaced & output.token_mask
        # Where nothing is detected, everything is called original.
        logits = (
            torch.full(tokens.shape, -1.0, device=tokens.device) if output.logits is None else output.logits.float()
        )
        predicted = (logits > 0) & tokens
        divisors = output.loss_terms if loss_normalizers is None else loss_normalizers
        nothing = torch.zeros((), device=tokens.device)
        losses = [
            output[name] * divisors[LOSS_POSITIONS.index(self._positions_of_losses[name])]
            if name in output
            else nothing
            for name in _LOSSES
        ]
        batch = (
            *losses,
            nothing + 1,
            *output.loss_terms,
            nothing if output.generator_is_correct is None else output.generator_is_correct.sum(),
            nothing if output.is_recovered is None else output.is_recovered.sum(),
            replaced.sum(),
            predicted.sum(),
            (predicted & replaced).sum(),
        )
        self.sums += torch.stack([value.to(self.sums.dtype) for value in batch])
        scaled = (logits + _LARGEST_LOGIT) * (_BINS / (2 * _LARGEST_LOGIT))
        bins = torch.nan_to_num(scaled).long().clamp(0, _BINS - 1) + _BINS * replaced
        self.histogram.scatter_add_(0, bins.flatten(), tokens.flatten().to(self.histogram.dtype))

    def packed(self) -> Tensor:
        """All sums as one vector, for a reduction over ranks or a checkpoint."""
        return torch.cat([self.sums, self.histogram])

    def load(self, packed: Tensor) -> None:
        """Take over sums that `packed` gave."""
        packed = packed.to(self.sums)
        self.sums, self.histogram = packed[: len(_SUMS)].clone(), packed[len(_SUMS) :].clone()

    def reset(self) -> None:
        self.sums.zero_()
        self.histogram.zero_()


def rtd_metrics(packed: Tensor, positions_of_losses: dict[str, str] = _RTD_LOSS_POSITIONS) -> dict[str, float]:
    """Metrics of `RtdTelemetry.packed()`; this waits for the device.

    Returns:
        The losses of the objective (nats); of a generator that learns `mlm_accuracy` over chosen positions;
        `replaced_rate` over tokens; of a detection `discriminator_precision`, `discriminator_recall`,
        `discriminator_auc` of replaced tokens; of a discriminator's own masked LM `recovered_accuracy` over chosen
        positions. A ratio without a denominator is 0, an AUC without both classes 0.5.
    """
    packed = packed.double().cpu()
    total = dict(zip(_SUMS, packed[: len(_SUMS)].tolist(), strict=True))

    def ratio(numerator: float, denominator: float) -> float:
        return numerator / denominator if denominator else 0.0

    metrics = {name: ratio(total[name], total[terms]) for name, terms in positions_of_losses.items()}
    if "generator_loss" in metrics:
        metrics["mlm_accuracy"] = ratio(total["generator_correct"], total["chosen"])
    metrics["replaced_rate"] = ratio(total["replaced"], total["tokens"])
    if "discriminator_loss" in metrics:
        metrics["discriminator_precision"] = ratio(total["replaced_found"], total["predicted_replaced"])
        metrics["discriminator_recall"] = ratio(total["replaced_found"], total["replaced"])
        metrics["discriminator_auc"] = area_under_curve(*packed[len(_SUMS) :].view(2, _BINS))
    if "masked_lm_loss" in metrics:
        metrics["recovered_accuracy"] = ratio(total["recovered"], total["chosen"])
    return metrics


def counted_tokens(packed: Tensor) -> int:
    """Tokens (not padding) in `RtdTelemetry.packed()`; this waits for the device."""
    return int(packed[_SUMS.index("tokens")].item())


def area_under_curve(original: Tensor, replaced: Tensor) -> float:
    """Probability that a replaced token scores above an original one, ties counting one half.

    Args:
        original, replaced: `(bins,)` counts of each class by ascending score.
    """
    pairs = (original.sum() * replaced.sum()).item()
    if not pairs:
        return 0.5
    below = original.cumsum(0) - original / 2
    return (replaced * below).sum().item() / pairs


class HealthMonitor:
    """Watches the logged metrics and says in words what is going wrong and what to change.

    Args:
        vocab_size: a generator that knows nothing has a loss of log(vocab_size).
        patience: logs in a row that must show a problem before it is reported, once each time it begins.
    """

    def __init__(self, vocab_size: int, patience: int = 5):
        self.vocab_size = vocab_size
        self.patience = patience
        self._streaks: dict[str, int] = {}

    def check(self, metrics: dict[str, float], step: int, warmed_up: bool) -> list[str]:
        """Warnings for one log.

        Args:
            metrics: of `rtd_metrics`, with `loss` and `grad_norm` where known.
            warmed_up: whether the learning-rate warm-up is over; before, only a broken loss is reported.
        """
        values = [metrics[name] for name in ("loss", *_LOSSES) if name in metrics]
        finite = all(math.isfinite(value) for value in values) and math.isfinite(metrics.get("grad_norm", 0.0))
        # What an objective does not have cannot go wrong.
        metrics = {**_NOTHING_WRONG, **metrics}
        replaced_share = 1 - metrics["mlm_accuracy"]
        problems = {
            "loss": (
                not finite,
                1,
                "the loss or gradient is not finite: lower learning_rate (and muon_learning_rate), keep "
                "max_grad_norm at 1.0, lengthen warmup_steps, or resume from the last checkpoint with another seed",
            ),
            "one_class": (
                warmed_up and metrics["discriminator_recall"] < 0.001 and metrics["discriminator_auc"] < 0.55,
                4 * self.patience,
                f"the discriminator calls every token original (AUC {metrics['discriminator_auc']:.3f}): start with "
                "easier replacements (initial_sampling_temperature 3 to 5), raise discriminator_loss_weight, or raise "
                "the learning rate",
            ),
            "everything_replaced": (
                warmed_up and metrics["discriminator_recall"] > 0.999 and metrics["discriminator_precision"] < 0.5,
                self.patience,
                "the discriminator calls every token replaced: check that labels and text agree (special_token_ids, "
                "tokenizer), and lower discriminator_loss_weight",
            ),
            "generator_too_strong": (
                warmed_up and replaced_share < 0.25,
                self.patience,
                f"the generator restores {1 - replaced_share:.0%} of the chosen tokens, so few are replaced: use a "
                "smaller generator (generator_width, generator_depth), raise mask_probability or sampling_temperature",
            ),
            "generator_idle": (
                warmed_up and metrics["generator_loss"] > 0.9 * math.log(self.vocab_size),
                self.patience,
                f"the generator's loss {metrics['generator_loss']:.2f} is near chance (log of the vocabulary size is "
                f"{math.log(self.vocab_size):.2f}): raise learning_rate, or check the tokenizer and the text",
            ),
        }
        warnings = []
        for name, (present, patience, message) in problems.items():
            self._streaks[name] = self._streaks.get(name, 0) + 1 if present else 0
            if self._streaks[name] == patience:
                warnings.append(f"step {step}: {message}")
        return warnings
