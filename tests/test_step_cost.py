"""A step is counted as it is: FLOPs against the counter of torch and against formulas, memory against allocations."""

import pytest
import torch
from helpers.step_cost import CONFIGS, pair, run
from helpers.tiny import ALL_FAMILIES, OBJECTIVE, tiny_config, tiny_electra_config
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from modeling_electra_rtd import ElectraRtdConfig, ElectraRtdForPreTraining, ElectraRtdTrainingArguments
from modeling_electra_rtd.common.machine import peak_resident_bytes
from modeling_electra_rtd.model.corruption import slots_per_row
from modeling_electra_rtd.model.cpu_attention import use_cpu_layers
from modeling_electra_rtd.pretraining.step_cost import DISCRIMINATOR, GENERATOR, OPTIMIZER, Step, count_step


def real_step(config: ElectraRtdConfig, arguments: ElectraRtdTrainingArguments, length: int) -> Step:
    model = ElectraRtdForPreTraining(config).train()
    use_cpu_layers(model)
    if arguments.activation_checkpointing:
        model.activation_checkpointing_enable()
    step = Step(model, arguments, length)
    # The optimizer's state is there from the second step on.
    step()
    return step


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize(
    ("rows", "length", "objective", "more"),
    [
        (2, 16, {}, {}),
        (3, 40, {"mask_probability": 0.3, "embedding_sharing": "none", "dropout": 0.1}, {"bf16": True}),
        (1, 24, {"mask_probability": 0.01}, {"gradient_accumulation_steps": 3, "muon_learning_rate": 0.02}),
        (2, 16, {"dropout": 0.1}, {"activation_checkpointing": True}),
    ],
)
def test_flops_are_those_of_a_real_step(family, rows, length, objective, more):
    config, arguments = pair(family, **objective), run(rows, **more)
    cost = count_step(lambda: ElectraRtdForPreTraining(config), arguments, length, "cpu")
    with FlopCounterMode(display=False) as counter:
        real_step(config, run(rows, **more), length)()
    real = ElectraRtdForPreTraining(config)
    # One step to make the optimizer's state, and one that counts.
    assert 2 * cost.flops() == counter.get_total_flops()
    assert sum(cost.parameters.values()) == real.num_parameters()
    assert sum(cost.flops(part) for part in (GENERATOR, DISCRIMINATOR, OPTIMIZER)) == cost.flops()
    assert bool(cost.flops(OPTIMIZER)) == ("muon_learning_rate" in more)


@pytest.mark.parametrize("family", [family for family in ALL_FAMILIES if family not in CONFIGS])
def test_flops_of_families_with_attention_and_poolers_of_their_own(family):
    config = ElectraRtdConfig.from_discriminator(tiny_config(family), **OBJECTIVE)
    cost = count_step(lambda: ElectraRtdForPreTraining(config), run(2), 16, "cpu")
    with FlopCounterMode(display=False) as counter:
        real_step(config, run(2), 16)()
    assert 2 * cost.flops() == counter.get_total_flops()
    assert sum(cost.flops(part) for part in (GENERATOR, DISCRIMINATOR)) == cost.flops()
    assert sum(cost.parameters.values()) == ElectraRtdForPreTraining(config).num_parameters()


@pytest.mark.parametrize(
    "fields",
    [
        {"objective": "mlm"},
        {"objective": "rtd_mlm"},
        {"objective": "replace_mlm", "generator_kind": "uniform"},
        {"objective": "all_tokens_mlm"},
        {"objective": "electric", "generator_kind": "two_tower"},
        {"embedding_sharing": "gdes"},
        {"embedding_sharing": "all"},
        {"generator_feedback": "gumbel_softmax"},
    ],
    ids=lambda fields: " ".join(fields.values()),
)
def test_flops_of_every_objective(fields):
    config = pair("modernbert", **fields)
    cost = count_step(lambda: ElectraRtdForPreTraining(config), run(2), 16, "cpu")
    with FlopCounterMode(display=False) as counter:
        real_step(config, run(2), 16)()
    assert 2 * cost.flops() == counter.get_total_flops()
    assert sum(cost.parameters.values()) == ElectraRtdForPreTraining(config).num_parameters()
    assert (cost.flops(GENERATOR) > 0) == config.has_generator_network


@pytest.mark.parametrize("width", [0.25, 0.5, 1.0])
def test_each_network_has_the_flops_of_its_formula(width):
    rows, length = 3, 20
    config = pair("electra", width, mask_probability=0.2)
    cost = count_step(lambda: ElectraRtdForPreTraining(config), run(rows), length, "cpu")
    tokens, chosen = rows * length, rows * slots_per_row(length, 0.2)

    def encoder(sizes) -> int:
        hidden, embeddings = sizes.hidden_size, sizes.embedding_size
        layer = tokens * (4 * hidden**2 + 2 * hidden * sizes.intermediate_size) + 2 * rows * length**2 * hidden
        return sizes.num_hidden_layers * layer + (embeddings != hidden) * tokens * embeddings * hidden

    small, large = config.generator_config, config.discriminator_config
    vocabulary_head = chosen * small.embedding_size * (small.hidden_size + small.vocab_size)
    # 2 FLOPs a multiply-add, and for every product of the forward pass two in the backward pass.
    assert cost.flops(GENERATOR) == 6 * (encoder(small) + vocabulary_head)
    assert cost.flops(DISCRIMINATOR) == 6 * (encoder(large) + tokens * large.hidden_size * (large.hidden_size + 1))


def test_fused_attention_computes_its_scores_once_more_and_keeps_none():
    rows, length = 2, 48
    plain, fused = (
        count_step(lambda: ElectraRtdForPreTraining(pair("electra", dropout=0.1)), run(rows), length, device)
        for device in ("cpu", "cuda")
    )
    config = pair("electra")
    again = sum(
        2 * rows * length**2 * network.hidden_size * network.num_hidden_layers
        for network in (config.generator_config, config.discriminator_config)
    )
    assert fused.flops() - plain.flops() == again
    scores = 4 * rows * 4 * length**2 * 3
    assert plain.memory.activations - fused.memory.activations > scores


def allocated_at_most(step: Step) -> int:
    """Bytes that a step has alive at most beside what is alive before it, as the profiler saw them come and go."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    live = peak = 0
    for event in sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return peak


@pytest.mark.parametrize("more", [{}, {"bf16": True}, {"activation_checkpointing": True}])
def test_live_bytes_are_those_that_are_allocated(more):
    config, arguments = pair("electra", dropout=0.1), run(16, **more)
    memory = count_step(lambda: ElectraRtdForPreTraining(config), arguments, 48, "cpu").memory
    step = real_step(config, run(16, **more), 48)
    assert memory.passing == pytest.approx(allocated_at_most(step), rel=0.03)
    parameters = sum(parameter.nbytes for parameter in step.model.parameters())
    assert memory.gradients == parameters and memory.optimizer == pytest.approx(2 * parameters, rel=0.01)
    assert 0 < memory.activations < memory.peak


def test_counting_takes_no_memory():
    config = ElectraRtdConfig.from_discriminator(
        tiny_electra_config(hidden_size=2048, intermediate_size=8192, embedding_size=2048), **OBJECTIVE
    )
    count_step(lambda: ElectraRtdForPreTraining(pair("electra")), run(1), 8, "cpu")
    before = peak_resident_bytes()
    cost = count_step(lambda: ElectraRtdForPreTraining(config), run(64), 64, "cpu")
    assert cost.memory.peak > 2e9
    assert peak_resident_bytes() - before < 2e8


def test_memory_of_a_longer_row_is_counted_not_scaled():
    counted = [
        count_step(lambda: ElectraRtdForPreTraining(pair("electra")), run(4), length, "cpu").memory.activations
        for length in (16, 32, 64)
    ]
    # Scores grow with the square of the length.
    assert counted[2] - 2 * counted[1] > 2 * (counted[1] - 2 * counted[0]) > 0
    assert torch.is_grad_enabled()
