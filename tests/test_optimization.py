"""Who is decayed, who goes to Muon, that the two optimizers as one are the two optimizers, and clipped updates."""

import copy
import math

import pytest
import torch
from helpers.blocks import random_blocks, tiny_arguments, tiny_joint_model
from torch.optim import AdamW, Muon

from modeling_electra_rtd.data.collator import BlockCollator
from modeling_electra_rtd.pretraining.optimization import (
    ClippedAdamW,
    create_optimizer,
    orthogonalized,
    parameter_groups,
)


def names_of(model, groups) -> dict[tuple[str, float], set[str]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        (group["algorithm"], group["weight_decay"]): {names[id(parameter)] for parameter in group["params"]}
        for group in groups
    }


def test_biases_and_norms_are_not_decayed_and_every_parameter_is_in_one_group(tmp_path):
    model = tiny_joint_model()
    groups = names_of(model, parameter_groups(model, tiny_arguments(tmp_path, weight_decay=0.01)))
    assert set(groups) == {("adamw", 0.01), ("adamw", 0.0)}
    assert groups["adamw", 0.0] == {
        name for name, _ in model.named_parameters() if name.endswith("bias") or "LayerNorm" in name
    }
    assert groups["adamw", 0.01] | groups["adamw", 0.0] == {name for name, _ in model.named_parameters()}


def test_muon_gets_hidden_matrices_and_neither_embeddings_nor_outputs(tmp_path):
    model = tiny_joint_model()
    groups = names_of(model, parameter_groups(model, tiny_arguments(tmp_path, muon_learning_rate=0.02)))
    muon = groups["muon", 0.01]
    assert "electra.encoder.layer.0.attention.self.query.weight" in muon
    assert "generator.electra.encoder.layer.1.output.dense.weight" in muon
    assert "discriminator_predictions.dense.weight" in muon
    assert {name for name in groups["adamw", 0.01]} == {
        "electra.embeddings.word_embeddings.weight",
        "electra.embeddings.position_embeddings.weight",
        "electra.embeddings.token_type_embeddings.weight",
        "discriminator_predictions.dense_prediction.weight",
    }


def step(model, optimizer, batch) -> None:
    optimizer.zero_grad()
    torch.manual_seed(3)
    model(**batch).loss.backward()
    optimizer.step()


@pytest.mark.parametrize("bf16", [True, False])
def test_the_combination_equals_muon_and_adamw_side_by_side(tmp_path, monkeypatch, bf16):
    ours = tiny_joint_model(dropout=0.0)
    theirs = copy.deepcopy(ours)
    arguments = tiny_arguments(tmp_path, muon_learning_rate=0.02, learning_rate=1e-2, bf16=bf16)
    if not bf16:
        # With which torch's own code stays in fp32.
        monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    one = create_optimizer(ours, arguments)
    adamw, muon = [], []
    for group in parameter_groups(theirs, arguments):
        plain = {name: value for name, value in group.items() if name != "algorithm"}
        (muon if group["algorithm"] == "muon" else adamw).append(plain)
    two = (AdamW(adamw, betas=(0.9, 0.999), eps=1e-6, fused=True), Muon(muon))
    batch = BlockCollator()(random_blocks(4))
    for _ in range(3):
        step(ours, one, batch)
        for optimizer in two:
            optimizer.zero_grad()
        torch.manual_seed(3)
        theirs(**batch).loss.backward()
        for optimizer in two:
            optimizer.step()
    for (name, value), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(value, other), name


@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (16, 16)])
def test_an_orthogonalized_matrix_has_the_same_directions_and_no_lengths(shape):
    torch.manual_seed(0)
    update = torch.randn(shape) * 1e3
    found = orthogonalized(update, (3.4445, -4.7750, 2.0315), 5, 1e-7)
    left, _, right = torch.linalg.svd(update, full_matrices=False)
    lengths = left.T @ found @ right.T
    assert ((lengths.diag() > 0.5) & (lengths.diag() < 1.5)).all()
    torch.testing.assert_close(lengths, lengths.diag().diag(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("clipping", [False, True])
def test_its_state_dict_continues_exactly(tmp_path, clipping):
    arguments = tiny_arguments(tmp_path, muon_learning_rate=0.02, adam_update_clipping=clipping)
    model, batch = tiny_joint_model(dropout=0.0), BlockCollator()(random_blocks(4))
    optimizer = create_optimizer(model, arguments)
    step(model, optimizer, batch)
    copied = copy.deepcopy(model)
    other = create_optimizer(copied, arguments)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(model, optimizer, batch)
    step(copied, other, batch)
    for (name, value), loaded in zip(model.named_parameters(), copied.parameters(), strict=True):
        assert torch.equal(value, loaded), name


def test_a_scheduler_moves_the_rates_of_both(tmp_path):
    model = tiny_joint_model()
    optimizer = create_optimizer(model, tiny_arguments(tmp_path, muon_learning_rate=0.02, learning_rate=1e-3))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5)
    before = {name: value.clone() for name, value in model.named_parameters()}
    assert {group["lr"] for group in optimizer.param_groups} == {0.01, 0.0005}
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    step(model, optimizer, BlockCollator()(random_blocks(4)))
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
    assert scheduler.get_last_lr()


def run_adamw(optimizer_class, weights: list[float], gradients: list[list[float]], **settings) -> torch.Tensor:
    parameter = torch.nn.Parameter(torch.tensor(weights))
    optimizer = optimizer_class([parameter], fused=True, **settings)
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
    return parameter.detach()


def test_a_clipped_update_by_hand():
    lr, beta1, beta2, eps, decay = 0.1, 0.9, 0.99, 1e-6, 0.5
    weights, first, second = [1.0, -2.0, 3.0], [0.1, 0.2, 0.0], [1.0, -4.0, 0.0]
    expected, squares = [], []
    for weight, g, h in zip(weights, first, second, strict=True):
        # The first step: both moments are the gradient's own after the correction of their bias.
        weight -= lr * (decay * weight + g / (math.sqrt(g * g) + eps))
        momentum = (beta1 * (1 - beta1) * g + (1 - beta1) * h) / (1 - beta1**2)
        variance = (beta2 * (1 - beta2) * g * g + (1 - beta2) * h * h) / (1 - beta2**2)
        expected.append((weight, momentum / (math.sqrt(variance) + eps)))
        squares.append(h * h / max(variance, eps * eps))
    rms = math.sqrt(sum(squares) / 3)
    assert rms > 1.1
    expected = [weight - lr / rms * (decay * weight + update) for weight, update in expected]
    settings = {"lr": lr, "betas": (beta1, beta2), "eps": eps, "weight_decay": decay}
    found = run_adamw(ClippedAdamW, weights, [first, second], **settings)
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-6, rtol=1e-6)
    assert not torch.allclose(found, run_adamw(AdamW, weights, [first, second], **settings), atol=1e-3)


def test_an_update_that_is_not_above_one_is_adamws_to_the_bit():
    # A zero among the gradients keeps the mean below 1 in the first step, and ever smaller ones in the others.
    gradients = [[0.3 / 2**step, -1.7 / 2**step, 0.0] for step in range(6)]
    settings = {"lr": 0.013, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.1}
    clipped, plain = (
        run_adamw(optimizer_class, [0.7, -1.3, 2.1], gradients, **settings)
        for optimizer_class in (ClippedAdamW, AdamW)
    )
    assert torch.equal(clipped, plain)


def test_clipping_is_for_the_adamw_part_alone(tmp_path):
    batch, weights = BlockCollator()(random_blocks(4)), []
    for clipping in (False, True):
        model = tiny_joint_model(dropout=0.0)
        optimizer = create_optimizer(
            model, tiny_arguments(tmp_path, muon_learning_rate=0.02, adam_update_clipping=clipping)
        )
        torch.manual_seed(3)
        model(**batch).loss.backward()
        for scale in (1e-3, 1.0):
            # Gradients that the second moment has not seen the like of.
            kept = [parameter.grad for parameter in model.parameters()]
            for parameter, gradient in zip(model.parameters(), kept, strict=True):
                parameter.grad = gradient * scale
            optimizer.step()
            for parameter, gradient in zip(model.parameters(), kept, strict=True):
                parameter.grad = gradient
        weights.append({name: parameter.detach() for name, parameter in model.named_parameters()})
    matrix, words = "electra.encoder.layer.0.attention.self.query.weight", "electra.embeddings.word_embeddings.weight"
    assert torch.equal(weights[0][matrix], weights[1][matrix])
    assert (weights[0][words] - weights[1][words]).abs().max() > 1e-4
