"""Who is decayed, who goes to Muon, and that the two optimizers as one are the two optimizers."""

import copy

import pytest
import torch
from blocks_for_tests import random_blocks, tiny_arguments, tiny_joint_model
from torch.optim import AdamW, Muon

from modeling_electra_rtd.data.collator import BlockCollator
from modeling_electra_rtd.pretraining.optimization import create_optimizer, parameter_groups, sampling_temperature


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


def test_the_combination_equals_muon_and_adamw_side_by_side(tmp_path):
    ours = tiny_joint_model(dropout=0.0)
    theirs = copy.deepcopy(ours)
    arguments = tiny_arguments(tmp_path, muon_learning_rate=0.02, learning_rate=1e-2)
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


def test_its_state_dict_continues_exactly(tmp_path):
    arguments = tiny_arguments(tmp_path, muon_learning_rate=0.02)
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


def test_the_temperature_falls_linearly_and_stays(tmp_path):
    arguments = tiny_arguments(tmp_path, initial_sampling_temperature=5.0, sampling_temperature_decay_steps=0.5)
    at = [sampling_temperature(arguments, 1.0, step, total_steps=100) for step in (0, 25, 50, 100)]
    assert at == pytest.approx([5.0, 3.0, 1.0, 1.0])
    constant = tiny_arguments(tmp_path)
    assert sampling_temperature(constant, 1.5, 7, 100) == 1.5
