"""Parameter groups, AdamW with clipped updates, and the optimizer that runs Muon and AdamW as one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

from ..common.training_arguments import ElectraRtdTrainingArguments


def parameter_groups(model: nn.Module, arguments: ElectraRtdTrainingArguments) -> list[dict[str, Any]]:
    """Split parameters as the reference does: no decay on biases and norms, decay on everything else.

    With `muon_learning_rate` the weight matrices between hidden states go to Muon. Embeddings and whatever projects
    onto the vocabulary or onto one logit stay with AdamW: their rows are looked up or read out one by one, and
    orthogonalising them would mix tokens.
    """
    embeddings = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    groups: dict[str, dict[str, Any]] = {
        "decayed": {"algorithm": "adamw", "weight_decay": arguments.weight_decay, "lr": arguments.learning_rate},
        "not_decayed": {"algorithm": "adamw", "weight_decay": 0.0, "lr": arguments.learning_rate},
        "hidden": {
            "algorithm": "muon",
            "weight_decay": arguments.weight_decay,
            "lr": arguments.muon_learning_rate,
            "momentum": arguments.muon_momentum,
        },
    }
    for group in groups.values():
        group["params"] = []
    vocabulary_size = getattr(getattr(model, "config", None), "vocab_size", None)
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim < 2:
            name = "not_decayed"
        elif (
            arguments.muon_learning_rate is None
            or id(parameter) in embeddings
            or parameter.ndim != 2
            or parameter.shape[0] in (1, vocabulary_size)
        ):
            name = "decayed"
        else:
            name = "hidden"
        groups[name]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


class ClippedAdamW(AdamW):
    """AdamW whose step of a tensor, weight decay included, is divided by max(1, RMS) with
    RMS = sqrt(mean(g^2 / max(v, eps^2))): StableAdamW (Wortsman et al. 2023, "Stable and low-precision training for
    large-scale vision-language models", algorithm 2). RMS is above 1 where gradients are larger than v remembers.

    The fused kernel steps in full and the step is then shortened. That costs a copy of the weights during the step and
    some passes over them, and leaves AdamW's result to the bit where RMS is at most 1.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        moved = [
            (parameter, parameter.clone(), group)
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        loss = super().step(closure)
        for parameter, before, group in moved:
            state = self.state[parameter]
            second_moment = state["exp_avg_sq"] / (1 - group["betas"][1] ** state["step"])
            rms = parameter.grad.square().div_(second_moment.clamp_(min=group["eps"] ** 2)).mean().sqrt()
            parameter.sub_((parameter - before).mul_(1 - 1 / rms.clamp(min=1)))
        return loss


class Fp32Muon(Muon):
    """`torch.optim.Muon` with its matrix products in fp32.

    By itself it multiplies in bf16 whatever the precision of the run. Where a processor converts bf16 matrices first,
    that takes ten times as long, and was five sixths of a small model's step.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters, gradients, momenta = [], [], []
            self._init_group(group, parameters, gradients, momenta)
            lr, momentum = float(group["lr"]), group["momentum"]
            for parameter, gradient, average in zip(parameters, gradients, momenta, strict=True):
                average.lerp_(gradient, 1 - momentum)
                update = gradient.lerp(average, momentum) if group["nesterov"] else average
                update = orthogonalized(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
                parameter.mul_(1 - lr * group["weight_decay"])
                # Updates of a matrix have the size of its gradient's singular vectors: larger for tall ones.
                tallness = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
                parameter.add_(update, alpha=-lr * tallness)
        return loss


def orthogonalized(update: Tensor, coefficients: tuple[float, float, float], iterations: int, eps: float) -> Tensor:
    """`(rows, columns)` with the singular vectors of `update` and singular values near 1: the quintic Newton-Schulz
    iteration of Muon (Jordan et al. 2024), in the precision of `update`.

    Args:
        coefficients: of the polynomial's odd powers.
        eps: the least norm that is divided by.
    """
    first, third, fifth = coefficients
    is_tall = update.shape[0] > update.shape[1]
    # The smaller of the two sides is squared: (least, least) products.
    values = update.T if is_tall else update
    values = values / values.norm().clamp(min=eps)
    for _ in range(iterations):
        gram = values @ values.T
        polynomial = torch.addmm(gram, gram, gram, beta=third, alpha=fifth)
        values = torch.addmm(values, polynomial, values, beta=first)
    return values.T if is_tall else values


class MuonAdamW(Optimizer):
    """`torch.optim.Muon` for the groups marked `algorithm="muon"` and `torch.optim.AdamW` for the rest, as one
    optimizer: one list of groups for schedulers and sharding, one state dict for checkpoints.

    Args:
        update_clipping: take `ClippedAdamW` for the rest.
        bf16: whether Muon multiplies in bf16, as `torch` has it, or takes `Fp32Muon`.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        betas: tuple[float, float],
        eps: float,
        update_clipping: bool = False,
        bf16: bool = True,
    ):
        adamw = [group for group in groups if group["algorithm"] == "adamw"]
        muon = [group for group in groups if group["algorithm"] == "muon"]
        # Fused where the device has it: one pass over the weights instead of a chain of element-wise ones.
        adamw_class = ClippedAdamW if update_clipping else AdamW
        self._optimizers: dict[str, Optimizer] = {"adamw": adamw_class(adamw, betas=betas, eps=eps, fused=True)}
        if muon:
            self._optimizers["muon"] = (Muon if bf16 else Fp32Muon)(muon)
        # The parts have completed the very dicts of groups that this optimizer now owns.
        super().__init__(groups, {})
        self._share_state()

    def _share_state(self) -> None:
        for algorithm, optimizer in self._optimizers.items():
            optimizer.state = self.state
            optimizer.param_groups = [group for group in self.param_groups if group["algorithm"] == algorithm]

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # Loading a state and sharding the parameters replace groups and state; what is current is looked up anew.
        self._share_state()
        for optimizer in self._optimizers.values():
            optimizer.step()
        return loss


def create_optimizer(model: nn.Module, arguments: ElectraRtdTrainingArguments) -> Optimizer:
    """The optimizer of a run: AdamW, or Muon with AdamW; Muon multiplies in the precision of the run."""
    return MuonAdamW(
        parameter_groups(model, arguments),
        betas=(arguments.adam_beta1, arguments.adam_beta2),
        eps=arguments.adam_epsilon,
        update_clipping=arguments.adam_update_clipping,
        bf16=bool(arguments.bf16),
    )
