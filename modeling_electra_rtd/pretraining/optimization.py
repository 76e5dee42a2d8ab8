"""Parameter groups, AdamW with clipped updates, and the optimizer that runs Muon and AdamW as one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from .training_args import ElectraRtdTrainingArguments


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


class MuonAdamW(Optimizer):
    """`torch.optim.Muon` for the groups marked `algorithm="muon"` and `torch.optim.AdamW` for the rest, as one
    optimizer: one list of groups for schedulers and sharding, one state dict for checkpoints.

    Args:
        update_clipping: take `ClippedAdamW` for the rest.
    """

    def __init__(
        self, groups: list[dict[str, Any]], betas: tuple[float, float], eps: float, update_clipping: bool = False
    ):
        adamw = [group for group in groups if group["algorithm"] == "adamw"]
        muon = [group for group in groups if group["algorithm"] == "muon"]
        # Fused where the device has it: one pass over the weights instead of a chain of element-wise ones.
        adamw_class = ClippedAdamW if update_clipping else AdamW
        self._optimizers: dict[str, Optimizer] = {"adamw": adamw_class(adamw, betas=betas, eps=eps, fused=True)}
        if muon:
            self._optimizers["muon"] = Muon(muon)
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
    """The optimizer of a run: AdamW, or Muon with AdamW."""
    return MuonAdamW(
        parameter_groups(model, arguments),
        betas=(arguments.adam_beta1, arguments.adam_beta2),
        eps=arguments.adam_epsilon,
        update_clipping=arguments.adam_update_clipping,
    )
