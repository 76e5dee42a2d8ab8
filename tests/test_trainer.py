"""The trainer against oracles: accumulation, resume, evaluation, learning. Two processes: distributed/."""

import json
import math

import numpy as np
import pytest
import torch
from helpers.blocks import TINY_VOCABULARY, random_blocks, tiny_arguments, tiny_joint_model, tiny_trainer

from modeling_electra_rtd.data.collator import BlockCollator, IndexedBlocks
from modeling_electra_rtd.model.corruption import number_of_uniforms
from modeling_electra_rtd.pretraining.schedules import scheduled_value
from modeling_electra_rtd.pretraining.trainer import ElectraRtdTrainer


def fixed_corruption(probability: float = 0.15) -> BlockCollator:
    return BlockCollator(
        corruption_seed=7, number_of_uniforms=lambda sequence: number_of_uniforms(sequence, probability)
    )


def train(folder, blocks, resume=None, model=None, **arguments) -> ElectraRtdTrainer:
    model = model or tiny_joint_model(dropout=arguments.pop("dropout", 0.1))
    collator = fixed_corruption() if arguments.pop("fixed", False) else None
    trainer = ElectraRtdTrainer(
        model=model,
        args=tiny_arguments(folder, **arguments),
        train_dataset=IndexedBlocks(blocks),
        eval_dataset=blocks[:6],
        data_collator=collator,
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def logged(trainer: ElectraRtdTrainer) -> list[dict]:
    timing = ("tokens_per_second",)
    return [
        {key: value for key, value in entry.items() if key not in timing}
        for entry in trainer.state.log_history
        if "generator_loss" in entry
    ]


def weights(trainer: ElectraRtdTrainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}


@pytest.mark.parametrize("muon", [None, 0.02])
def test_four_micro_batches_of_eight_equal_one_batch_of_32(tmp_path, muon):
    # Rows differ in padding and in special tokens, so a mean of means would differ.
    blocks = random_blocks(64, filled=(6, 24))
    shared = {"max_steps": 2, "fixed": True, "muon_learning_rate": muon, "dropout": 0.0}
    whole = train(tmp_path / "whole", blocks, per_device_train_batch_size=32, **shared)
    parts = train(tmp_path / "parts", blocks, per_device_train_batch_size=8, gradient_accumulation_steps=4, **shared)
    for one, other in zip(logged(whole), logged(parts), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)
        assert one["tokens_seen"] == other["tokens_seen"]
        assert one["discriminator_auc"] == pytest.approx(other["discriminator_auc"], abs=1e-6)
    # Muon orthogonalises in bfloat16, so fp32 rounding in a gradient shows at bfloat16's size in the update.
    tolerance = 2e-6 if muon is None else 2e-3
    for name, value in weights(whole).items():
        torch.testing.assert_close(value, weights(parts)[name], atol=tolerance, rtol=0)


# At step 3 of 6 everything is on its way: one micro-batch of 8 rows of 16, on the way from 4 x 8 to two of 4 x 32.
WARM_UPS = {
    "initial_batch_size": 2,
    "batch_size_warmup_steps": 5,
    "initial_sequence_length": 8,
    "sequence_length_warmup_steps": 5,
    "initial_mask_probability": 0.4,
    "adam_update_clipping": True,
}


@pytest.mark.parametrize(("accumulation", "warm_ups"), [(1, {}), (2, {}), (2, WARM_UPS)])
def test_resuming_after_step_3_equals_6_uninterrupted_steps_bit_for_bit(tmp_path, accumulation, warm_ups):
    blocks = random_blocks(60)
    shared = {
        **warm_ups,
        "max_steps": 6,
        "gradient_accumulation_steps": accumulation,
        "muon_learning_rate": 0.02,
        "initial_sampling_temperature": 3.0,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_strategy": "steps",
        "save_steps": 3,
        "logging_steps": 2,
    }
    straight = train(tmp_path / "straight", blocks, **shared)
    train(tmp_path / "broken", blocks, **shared)
    resumed = train(tmp_path / "broken", blocks, resume=str(tmp_path / "broken" / "checkpoint-3"), **shared)
    assert logged(straight) == logged(resumed)
    assert resumed.state.num_input_tokens_seen == straight.state.num_input_tokens_seen > 0
    for name, value in weights(straight).items():
        assert torch.equal(value, weights(resumed)[name]), name


def test_a_growing_batch_and_growing_rows_count_their_tokens(tmp_path):
    blocks = random_blocks(80, filled=(32, 33))
    trainer = train(tmp_path, blocks, max_steps=6, gradient_accumulation_steps=2, **WARM_UPS)
    rows = [2, 2, 4, 4, 4, 8]
    assert [entry["positions_per_step"] for entry in logged(trainer)] == [32 * count for count in rows]
    assert [entry["sequence_length"] for entry in logged(trainer)] == [8, 8, 16, 16, 16, 32]
    # Blocks without padding: every position is a token.
    assert [entry["tokens_seen"] for entry in logged(trainer)] == np.cumsum([32 * count for count in rows]).tolist()


def test_a_step_of_a_growing_batch_is_a_step_of_that_batch(tmp_path):
    # One text and one corruption, whatever rows a step takes.
    blocks = [{**random_blocks(1)[0], "block_index": 0}] * 96
    found = []
    for accumulation, growing in ((1, {}), (3, {"initial_batch_size": 4, "batch_size_warmup_steps": 1000})):
        arguments = tiny_arguments(
            tmp_path / str(accumulation), max_steps=4, gradient_accumulation_steps=accumulation, **growing
        )
        trainer = ElectraRtdTrainer(
            model=tiny_joint_model(dropout=0.0), args=arguments, train_dataset=blocks, data_collator=fixed_corruption()
        )
        trainer.train()
        found.append(trainer)
    for name, value in weights(found[0]).items():
        assert torch.equal(value, weights(found[1])[name]), name
    for one, other in zip(*map(logged, found), strict=True):
        assert one["loss"] == other["loss"] and one["tokens_seen"] == other["tokens_seen"]


def test_a_step_of_cut_rows_is_a_step_of_short_blocks(tmp_path):
    # A block of four equal documents, so that the order in which the short ones come makes no difference.
    document = random_blocks(1, filled=(8, 9), length=8)[0]
    assert document["document_lengths"] == [8]
    block = {"input_ids": np.tile(document["input_ids"], 4), "document_lengths": [8] * 4}
    shared = {"max_steps": 3, "muon_learning_rate": 0.02}
    short = train(tmp_path / "short", [document] * 96, per_device_train_batch_size=16, **shared)
    growing = {"initial_sequence_length": 8, "sequence_length_warmup_steps": 1000}
    cut = train(tmp_path / "cut", [block] * 24, **growing, **shared)
    for name, value in weights(short).items():
        assert torch.equal(value, weights(cut)[name]), name


def test_the_mask_probability_moves_and_the_losses_are_divided_by_what_is_chosen(tmp_path):
    model, blocks = tiny_joint_model(dropout=0.0), random_blocks(40)
    chosen, divisors = [], []
    model.register_forward_hook(
        lambda module, inputs, output: chosen.append(output.is_chosen.sum(dim=1)), prepend=True
    )
    model.register_forward_pre_hook(
        lambda module, inputs, named: divisors.append((named["loss_normalizers"], named["input_ids"])),
        with_kwargs=True,
    )
    schedule = {"initial_mask_probability": 0.5, "mask_probability_decay_steps": 4}
    trainer = train(tmp_path, blocks, model=model, max_steps=6, **schedule)
    expected = [scheduled_value(trainer.args, "mask_probability", 0.15, step, 6) for step in range(7)]
    assert expected == pytest.approx([0.5, 0.4125, 0.325, 0.2375, 0.15, 0.15, 0.15])
    assert [entry["mask_probability"] for entry in logged(trainer)] == expected[1:]
    for probability, counts, (divisor, ids) in zip(expected[:6], chosen, divisors, strict=True):
        candidates = (ids >= 5).sum(dim=1).tolist()
        assert counts.tolist() == [max(1, round(probability * count)) for count in candidates]
        assert divisor[0] == counts.sum()


@pytest.mark.slow
def test_every_shape_is_compiled_once_and_a_moving_probability_compiles_nothing(tmp_path, monkeypatch):
    shapes, compile_model = [], torch.compile

    def counting(*arguments, **options):
        def backend(graph, inputs):
            shapes.append(
                next(tuple(value.shape) for value in inputs if value.dtype == torch.int64 and value.ndim == 2)
            )
            return graph

        return compile_model(*arguments, **{**options, "backend": backend})

    monkeypatch.setattr(torch, "compile", counting)
    monkeypatch.delenv("ACCELERATE_DYNAMO_USE_DYNAMIC", raising=False)
    blocks, shared = random_blocks(40), {"max_steps": 6, "dropout": 0.0, **WARM_UPS}
    compiled = train(tmp_path / "compiled", blocks, torch_compile=True, torch_compile_backend="eager", **shared)
    # (rows, positions), numbers and not symbols, whose code would be one for all shapes.
    assert shapes == [(8, 8), (4, 16), (4, 32)]
    monkeypatch.undo()
    plain = train(tmp_path / "plain", blocks, **shared)
    assert [entry["loss"] for entry in logged(compiled)] == [entry["loss"] for entry in logged(plain)]


def test_evaluating_does_not_change_training(tmp_path):
    blocks = random_blocks(24)
    never = train(tmp_path / "never", blocks, max_steps=4)
    often = train(tmp_path / "often", blocks, max_steps=4, eval_strategy="steps", eval_steps=1)
    for name, value in weights(never).items():
        assert torch.equal(value, weights(often)[name]), name


def test_held_out_corruption_is_the_same_at_every_batch_size_and_every_time(tmp_path):
    blocks = random_blocks(11)
    model = tiny_joint_model()
    results = []
    for size in (2, 11):
        arguments = tiny_arguments(tmp_path / str(size), per_device_eval_batch_size=size)
        trainer = ElectraRtdTrainer(model=model, args=arguments, eval_dataset=blocks)
        results += [trainer.evaluate(), trainer.evaluate()]
    for result in results[1:]:
        for name in ("eval_loss", "eval_generator_loss", "eval_discriminator_auc", "eval_replaced_rate"):
            assert result[name] == pytest.approx(results[0][name], rel=1e-6)


def test_training_draws_new_corruption_every_step(tmp_path):
    block = random_blocks(1)
    trainer = train(tmp_path, block * 4, max_steps=4, learning_rate=1e-12, dropout=0.0, per_device_train_batch_size=1)
    assert len({entry["generator_loss"] for entry in logged(trainer)}) == 4


def parity_blocks(count: int) -> list[dict]:
    """A language with one rule: the tokens at even positions are even, those at odd positions odd."""
    rows = random_blocks(count, filled=(32, 33))
    for row in rows:
        ids, positions = row["input_ids"], np.arange(32)
        content = ids >= 5
        ids[content] = 6 + 2 * (ids[content] % 20) + (positions[content] % 2)
        row["document_lengths"] = [32]
    return rows


def test_the_generator_learns_a_language(tmp_path):
    blocks = parity_blocks(256)
    trainer = train(tmp_path, blocks, max_steps=120, learning_rate=5e-3, logging_steps=20, muon_learning_rate=0.02)
    losses = [entry["generator_loss"] for entry in logged(trainer)]
    assert losses[-1] < 0.85 * losses[0]


def test_the_discriminator_learns_to_find_what_breaks_a_rule(tmp_path):
    model = tiny_joint_model(seed=2, dropout=0.0)
    # A generator that stays ignorant breaks the rule half of the time.
    model.generator.requires_grad_(False)
    model.encoder.embeddings.requires_grad_(True)
    trainer = train(
        tmp_path,
        parity_blocks(256),
        model=model,
        max_steps=300,
        learning_rate=2e-3,
        logging_steps=30,
        seed=2,
        per_device_train_batch_size=16,
    )
    first, last = logged(trainer)[0], logged(trainer)[-1]
    assert last["discriminator_auc"] > 0.75 > 0.6 > first["discriminator_auc"]


def test_every_parameter_moves(tmp_path):
    model = tiny_joint_model()
    before = {name: value.clone() for name, value in model.named_parameters()}
    train(tmp_path, random_blocks(32), model=model, max_steps=2)
    unmoved = [name for name, value in model.named_parameters() if torch.equal(value, before[name])]
    # Segment 1 of the type table is in one table with segment 0, so whole parameters move.
    assert not unmoved


def test_the_log_averages_every_step_since_the_last(tmp_path):
    blocks = random_blocks(40)
    each = train(tmp_path / "each", blocks, max_steps=4, logging_steps=1)
    both = train(tmp_path / "both", blocks, max_steps=4, logging_steps=4)
    expected = sum(entry["discriminator_loss"] for entry in logged(each)) / 4
    assert logged(both)[0]["discriminator_loss"] == pytest.approx(expected, rel=0.02)
    assert logged(both)[0]["tokens_seen"] == logged(each)[-1]["tokens_seen"]


def test_the_record_counts_the_steps_after_the_last_log(tmp_path):
    blocks = random_blocks(20)
    cut, whole = (
        train(tmp_path / str(steps), blocks, max_steps=5, logging_steps=steps, save_strategy="no") for steps in (2, 5)
    )
    assert cut.run_record()["tokens_seen"] == whole.run_record()["tokens_seen"] > logged(cut)[-1]["tokens_seen"]


def test_a_schedule_of_warmup_stable_decay_ends_at_zero(tmp_path):
    trainer = train(
        tmp_path,
        random_blocks(40),
        max_steps=10,
        lr_scheduler_type="warmup_stable_decay",
        warmup_steps=2,
        decay_steps=0.4,
        learning_rate=1e-3,
    )
    rates = [entry["learning_rate"] for entry in logged(trainer)]
    assert rates[2:6] == pytest.approx([1e-3] * 4)
    assert rates[6] > rates[8] > 0
    # 1-sqrt: after 2 of 4 decay steps the rate is 1 - sqrt(1/2) of its peak.
    assert rates[8] == pytest.approx(1e-3 * (1 - math.sqrt(0.5)), rel=1e-3)


def test_a_checkpoint_is_complete_and_holds_the_trainer_state(tmp_path):
    train(tmp_path, random_blocks(24), max_steps=2, save_strategy="steps", save_steps=2)
    folder = tmp_path / "checkpoint-2"
    assert (folder / "telemetry.safetensors").is_file()
    state = json.loads((folder / "trainer_state.json").read_text())
    assert state["num_input_tokens_seen"] > 0
    assert tiny_joint_model().config.vocab_size == TINY_VOCABULARY


def test_tokens_are_counted_once_whatever_is_asked_of_trainer(tmp_path):
    blocks = random_blocks(32)
    plain, asked = (
        train(tmp_path / name, blocks, max_steps=2, include_num_input_tokens_seen=name) for name in ("no", "all")
    )
    assert [entry["tokens_seen"] for entry in logged(plain)] == [entry["tokens_seen"] for entry in logged(asked)]


def test_several_held_out_sets_are_evaluated_by_name(tmp_path):
    trainer = train(tmp_path / "run", random_blocks(32), max_steps=1)
    one, other = random_blocks(6), random_blocks(5, filled=(6, 24))
    alone = {"one": trainer.evaluate(one)["eval_loss"], "other": trainer.evaluate(other)["eval_loss"]}
    trainer.eval_dataset = {"one": one, "other": other}
    metrics = trainer.evaluate()
    assert {name: metrics[f"eval_{name}_loss"] for name in alone} == alone and alone["one"] != alone["other"]
    assert trainer.run_record()["recipe"]["training"]["evaluation_blocks"] == trainer.args.evaluation_blocks


def test_a_decay_that_does_not_fit_the_epochs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="decay_steps 100 together exceed the 4 steps of the run"):
        train(
            *(tmp_path / "run", random_blocks(16)),
            max_steps=-1,
            num_train_epochs=1,
            lr_scheduler_type="warmup_stable_decay",
            decay_steps=100,
        )


def test_what_no_evaluation_measures_cannot_be_the_best(tmp_path):
    with pytest.raises(ValueError, match="metric_for_best_model is 'nonsense'; allowed: discriminator_auc"):
        tiny_trainer(tmp_path, metric_for_best_model="nonsense")
    tiny_trainer(tmp_path, metric_for_best_model="eval_discriminator_auc")


def test_a_schedule_that_does_not_take_its_arguments_says_so(tmp_path):
    trainer = tiny_trainer(tmp_path, lr_scheduler_type="cosine", lr_scheduler_kwargs={"nonsense": 1})
    with pytest.raises(ValueError, match=r"lr_scheduler_kwargs is \{'nonsense': 1\}; it must hold what cosine takes"):
        trainer.train()
