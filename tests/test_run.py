"""Whole runs: every shipped recipe from blocks to checkpoint, resume, evaluation, and what is refused before work."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import google_like_pair
from helpers.corpus import SMALL_RUN, write_corpus
from helpers.tiny import tiny_pair
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from modeling_electra_rtd.common.recipe_files import configuration_folder
from modeling_electra_rtd.data.tokenizer_training import train_tokenizer
from modeling_electra_rtd.pretraining.building import build_model
from modeling_electra_rtd.pretraining.plan import planned_config
from modeling_electra_rtd.pretraining.recipes import build_recipe, read_recipe
from modeling_electra_rtd.pretraining.run import evaluate, load_data, pretrain
from modeling_electra_rtd.pretraining.trainer import ElectraRtdTrainer


SHIPPED = sorted(path.stem for path in (configuration_folder() / "pretrain").glob("*.yaml"))


def recipe(data, folder: Path, model: dict | None = None, **training):
    discriminator = {
        "model_type": "modernbert",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    values = {
        "data": {"blocks": data[0]},
        "model": model or {"discriminator": discriminator},
        "training": {"output_dir": str(folder), **SMALL_RUN, **training},
    }
    return build_recipe(values)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_runs(name, data, tmp_path):
    overrides = {**SMALL_RUN, "blocks": data[0], "tokenizer": data[1], "output_dir": str(tmp_path / "run")}
    overrides["max_length"] = "32"
    shipped = read_recipe(name)
    if shipped.training.initial_sequence_length is not None:
        overrides["initial_sequence_length"] = "8"
    if shipped.model.discriminator_checkpoint:
        vocabulary = len(AutoTokenizer.from_pretrained(data[1]))
        pair = google_like_pair(tmp_path / "pair", vocabulary)
        overrides |= {"discriminator_checkpoint": pair[0], "generator_checkpoint": pair[1]}
    else:
        # The recipe's own architecture with few numbers: what is tested is that every key works.
        source = shipped.model.discriminator
        small = {"model_type": source["model_type"] if isinstance(source, dict) else "electra", "hidden_size": 48}
        if small["model_type"] == "gru_encoder":
            small |= {"embedding_size": 32}
        else:
            small |= {"intermediate_size": 64, "num_attention_heads": 4 if small["model_type"] == "electra" else 3}
        overrides["discriminator"] = json.dumps({**small, "num_hidden_layers": 4})
    record = pretrain(read_recipe(name, overrides))
    assert record["steps"] == 2 and record["tokens_seen"] > 0
    # A noise that is a table has no loss.
    learns = ["discriminator"] if shipped.model.generator_kind == "unigram" else ["generator", "discriminator"]
    assert [key for key in ("generator", "discriminator") if f"eval_{key}_loss" in record["held_out"]] == learns
    assert all(0 < record["held_out"][f"eval_{key}_loss"] < 20 for key in learns)
    folder = tmp_path / "run"
    for name in ("curves.png", "run.json", "recipe.yaml", "model.safetensors", "tokenizer.json"):
        assert (folder / name).stat().st_size > 0, name
    _, info = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]


def test_a_run_resumes_from_its_newest_complete_checkpoint(data, tmp_path):
    options = {"max_steps": "4", "save_strategy": "steps", "save_steps": "1", "eval_steps": "4"}
    pretrain(recipe(data, tmp_path / "straight", **options))
    shutil.copytree(tmp_path / "straight", tmp_path / "broken")
    shutil.rmtree(tmp_path / "broken" / "checkpoint-4")
    # As a process that was killed while it wrote leaves it.
    (tmp_path / "broken" / "checkpoint-3" / "telemetry.safetensors").unlink()
    record = pretrain(recipe(data, tmp_path / "broken", **options), resume=True)
    assert record["resumed_from"] == "checkpoint-2"
    straight, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("straight", "broken"))
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(data, tmp_path):
    options = {"save_strategy": "steps", "save_steps": "1"}
    pretrain(recipe(data, tmp_path / "straight", **options))
    killed = tmp_path / "killed"
    # As a process leaves it that was killed while it wrote its first.
    shutil.copytree(tmp_path / "straight" / "checkpoint-1", killed / "checkpoint-1")
    (killed / "checkpoint-1" / "telemetry.safetensors").unlink()
    with pytest.raises(ValueError, match="nothing to resume: .* holds no run"):
        pretrain(recipe(data, killed, **options), resume=True)
    shutil.copy(tmp_path / "straight" / "recipe.yaml", killed)
    record = pretrain(recipe(data, killed, **options), resume=True)
    assert record["resumed_from"] is None
    straight, again = (load_file(folder / "model.safetensors") for folder in (tmp_path / "straight", killed))
    assert all(torch.equal(straight[name], again[name]) for name in straight)
    # What is finished is not trained again.
    for checkpoint in killed.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    with pytest.raises(ValueError, match="nothing to resume: the run in .* is finished"):
        pretrain(recipe(data, killed, **options), resume=True)


def test_samples_that_are_not_of_the_known_noise_are_refused(data, tmp_path):
    model = {**recipe(data, tmp_path).values["model"], "objective": "electric", "generator_kind": "uniform"}
    with pytest.raises(ValueError, match="initial_sampling_temperature is 5.0, but objective 'electric' needs"):
        pretrain(recipe(data, tmp_path / "run", model, initial_sampling_temperature=5))
    with pytest.raises(ValueError, match="initial_mask_probability is 1.0, but objective 'electric' needs"):
        pretrain(recipe(data, tmp_path / "run", model, initial_mask_probability=1))
    assert not (tmp_path / "run").exists()
    assert pretrain(recipe(data, tmp_path / "run", model, initial_sampling_temperature=1))["steps"] == 2


def test_streaming_from_text_trains(data, tmp_path):
    corpus = write_corpus(tmp_path / "corpus", seed=3)
    values = {
        "data": {"corpus": [corpus], "tokenizer": data[1], "max_length": 32, "validation_blocks": data[0]},
        "model": recipe(data, tmp_path / "x").values["model"],
        "training": {"output_dir": str(tmp_path / "run"), **SMALL_RUN},
    }
    record = pretrain(build_recipe(values))
    assert record["steps"] == 2 and "eval_discriminator_auc" in record["held_out"]
    values["training"]["output_dir"] = str(tmp_path / "endless")
    values["training"]["max_steps"] = "-1"
    with pytest.raises(ValueError, match="set max_steps"):
        pretrain(build_recipe(values))


def test_a_taken_folder_and_nothing_to_resume_are_refused_before_any_work(data, tmp_path):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="already holds a run; use --resume"):
        pretrain(recipe(data, taken))
    assert [path.name for path in taken.iterdir()] == ["notes.txt"]
    with pytest.raises(ValueError, match="nothing to resume"):
        pretrain(recipe(data, tmp_path / "absent"), resume=True)
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("is_new", [True, False])
def test_a_run_cut_off_before_its_first_checkpoint_leaves_the_folder_free(is_new, data, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    if not is_new:
        folder.mkdir()

    def cut_off(trainer, *arguments, **options):
        assert (folder / "recipe.yaml").is_file()
        if trainer.state.global_step == 1:
            raise KeyboardInterrupt
        return step(trainer, *arguments, **options)

    step = ElectraRtdTrainer.training_step
    with monkeypatch.context() as patched:
        patched.setattr(ElectraRtdTrainer, "training_step", cut_off)
        with pytest.raises(KeyboardInterrupt):
            pretrain(recipe(data, folder))
        assert folder.exists() != is_new and not list(tmp_path.glob("run/*"))
        with pytest.raises(KeyboardInterrupt):
            pretrain(recipe(data, folder, save_strategy="steps", save_steps="1"))
    # There is something to go on from.
    assert {path.name for path in folder.iterdir()} == {"asked.json", "recipe.yaml", "checkpoint-1"}
    with pytest.raises(ValueError, match="already holds a run"):
        pretrain(recipe(data, folder))
    assert pretrain(recipe(data, folder, save_strategy="steps", save_steps="1"), resume=True)["steps"] == 2


def test_data_that_does_not_fit_is_refused_before_any_work(data, tmp_path):
    other = str(tmp_path / "other")
    train_tokenizer([write_corpus(tmp_path / "text", seed=9)], other, vocab_size=90, progress=False)
    wrong = recipe(data, tmp_path / "run")
    wrong.data.tokenizer = other
    with pytest.raises(ValueError, match="tokenizer"):
        pretrain(wrong)
    longer = recipe(data, tmp_path / "run")
    longer.data.max_length = 512
    with pytest.raises(ValueError, match="prepare them with --max-length 512"):
        pretrain(longer)
    with pytest.raises(ValueError, match="do not fill one batch"):
        pretrain(recipe(data, tmp_path / "run", per_device_train_batch_size=100_000))
    with pytest.raises(ValueError, match="initial_sequence_length is 24; allowed are"):
        pretrain(recipe(data, tmp_path / "run", initial_sequence_length=24))
    nowhere = recipe(data, tmp_path / "run")
    nowhere.data.blocks = str(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no such folder"):
        pretrain(nowhere)
    small = dict(recipe(data, tmp_path / "run").values["model"])
    small["discriminator"] = {**small["discriminator"], "vocab_size": 20}
    with pytest.raises(ValueError, match="vocab_size is 20, but the tokenizer has"):
        pretrain(recipe(data, tmp_path / "run", model=small))
    # The table's first position is padding's.
    sizes = {name: value for name, value in small["discriminator"].items() if name not in ("model_type", "vocab_size")}
    short = {"discriminator": {"model_type": "roberta", "max_position_embeddings": 32, **sizes}}
    with pytest.raises(ValueError, match="max_length is 32, .* max_position_embeddings 32, 1 of them padding's"):
        pretrain(recipe(data, tmp_path / "run", model=short))
    assert not (tmp_path / "run").exists()


def test_a_pair_of_two_vocabularies_is_refused(data, tmp_path):
    discriminator, _ = google_like_pair(tmp_path / "one", 120)
    _, generator = google_like_pair(tmp_path / "two", 130)
    model = {"discriminator_checkpoint": discriminator, "generator_checkpoint": generator}
    with pytest.raises(ValueError, match="generator vocab_size 130 differs from discriminator vocab_size 120"):
        pretrain(recipe(data, tmp_path / "run", model=model))


@pytest.mark.parametrize("masking_strategy", ["token", "whole_word"])
def test_evaluate_gives_what_the_run_recorded_and_leaves_nothing(masking_strategy, data, tmp_path):
    model = {**recipe(data, tmp_path / "run").values["model"], "masking_strategy": masking_strategy}
    record = pretrain(recipe(data, tmp_path / "run", model=model))
    beside_the_blocks = sorted(Path(data[0]).parent.iterdir())
    metrics = evaluate(str(tmp_path / "run"), data[0])
    assert sorted(Path(data[0]).parent.iterdir()) == beside_the_blocks
    # The record was measured in fp32 here; evaluate uses bf16 where that is fast.
    assert metrics["generator_loss"] == pytest.approx(record["held_out"]["eval_generator_loss"], rel=2e-2)


def test_evaluate_refuses_a_network_alone(data, tmp_path):
    pair = tiny_pair("electra")
    pair.generator.save_pretrained(tmp_path / "lone")
    with pytest.raises(ValueError, match="holds no generator"):
        evaluate(str(tmp_path / "lone"), data[0])


@pytest.mark.parametrize("frozen", [False, True])
def test_a_new_discriminator_beside_a_generator_that_has_learned(frozen, data, tmp_path):
    first = recipe(data, tmp_path / "first")
    first.model.embedding_sharing = "none"
    pretrain(first)
    model = {"discriminator": first.model.discriminator, "generator_checkpoint": str(tmp_path / "first")}
    model |= {"freeze_generator": frozen, "embedding_sharing": "none" if frozen else "tied_words"}
    second = recipe(data, tmp_path / "second", model=model)
    learned = load_file(tmp_path / "first" / "model.safetensors")
    names = [name for name in learned if name.startswith("generator.")]
    started = build_model(second.model, load_data(second.data)[2])
    state = started.state_dict()
    assert all(torch.equal(state[name], learned[name]) for name in names)
    # The words are the generator's where they are shared, and new where they are not.
    words = "model.embeddings.tok_embeddings.weight"
    assert torch.equal(state[words], learned[f"generator.{words}"]) == (not frozen)
    assert not torch.equal(state[words], learned[words])
    assert planned_config(second)[0].to_dict() == started.config.to_dict()
    pretrain(second)
    after = load_file(tmp_path / "second" / "model.safetensors")
    assert all(torch.equal(after[name], learned[name]) for name in names) == frozen
