"""`electra-rtd plan`: what a recipe will take, from the recipe alone; nothing is written or claimed without cause."""

import dataclasses
import json

import pytest
from helpers.calibration import RATES
from helpers.cli import MODEL, fails
from helpers.tiny import OBJECTIVE, tiny_config, tiny_tokenizer

from modeling_electra_rtd import ElectraRtdConfig, ElectraRtdForPreTraining
from modeling_electra_rtd.cli.main import main
from modeling_electra_rtd.common.machine import environment
from modeling_electra_rtd.data.blocks import read_manifest
from modeling_electra_rtd.data.tokenization import load_tokenizer
from modeling_electra_rtd.pretraining.building import build_model, pair_config
from modeling_electra_rtd.pretraining.calibration import Calibration, save_calibration
from modeling_electra_rtd.pretraining.plan import plan, planned_config
from modeling_electra_rtd.pretraining.recipes import read_recipe


# Of a machine whose matrix products take twice as long in fp32.
SLOWER = dataclasses.replace(RATES, products={kind: (2 * one, other) for kind, (one, other) in RATES.products.items()})
SMALL = ["--discriminator", MODEL, "--vocab-size", "200", "--max-length", "32", "--per-device-train-batch-size", "4"]


@pytest.fixture
def machine(tmp_path) -> str:
    file = str(tmp_path / "machine.json")
    measured = {**environment(), "device": "Another Machine"}
    save_calibration(Calibration("cpu", {"bf16": RATES, "fp32": SLOWER}, measured), file)
    return file


def test_a_recipe_alone_is_enough(tmp_path, machine, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    assert main(["plan", "tiny", *SMALL, "--calibration", machine, "--max-steps", "1800"]) == 0
    shown = capsys.readouterr().out
    assert "Another Machine, bf16" in shown and "1,800 steps, 230,400 tokens" in shown
    assert set(tmp_path.rglob("*")) == before
    assert (
        main(["plan", "tiny", *SMALL, "--calibration", machine, "--json", "plan.json", "--price-per-hour", "3"]) == 0
    )
    values = json.loads((tmp_path / "plan.json").read_text())
    assert values["tokens_per_step"] == 128 and values["tokens"] == 128 * values["steps"]
    assert values["hours"] == pytest.approx(values["steps"] * values["seconds_per_step"] / 3600)
    assert values["tokens_per_second"] == pytest.approx(128 / values["seconds_per_step"])
    assert values["price"] == pytest.approx(3 * values["hours"])
    flops = values["flops_per_step"]
    assert flops["total"] == flops["generator"] + flops["discriminator"] + flops["optimizer"]
    assert values["flops"] == values["steps"] * flops["total"]
    assert values["calibrated_on"]["device"] == "Another Machine"
    assert values["environment"] == environment()


def test_a_step_of_a_growing_batch_costs_what_it_is(machine):
    small = dict(zip((option.lstrip("-").replace("-", "_") for option in SMALL[::2]), SMALL[1::2], strict=True))
    vocab_size = int(small.pop("vocab_size"))

    def planned(**options: str) -> dict:
        recipe = read_recipe("tiny", {**small, "max_steps": "10", **options})
        return plan(recipe, vocab_size, calibration_file=machine)

    # Six steps of two rows of four are followed by four full ones.
    growing = planned(initial_batch_size="2", batch_size_warmup_steps="6")
    half, full = planned(per_device_train_batch_size="2"), planned()
    for name in ("flops", "hours", "tokens"):
        assert growing[name] == pytest.approx(0.6 * half[name] + 0.4 * full[name], rel=1e-12)
    assert half["flops"] < growing["flops"] < full["flops"]
    # Sixteen rows of eight: as many positions, and fewer pairs of them.
    short = planned(initial_sequence_length="8", sequence_length_warmup_steps="1.0")
    assert short["tokens"] == full["tokens"] and short["flops"] < full["flops"]
    for name in ("flops_per_step", "tokens_per_step", "live_bytes"):
        assert short[name] == growing[name] == full[name]
    # A share that changes has the slots of the largest in every step.
    falling, wide = planned(initial_mask_probability="0.5"), planned(mask_probability="0.5")
    assert falling["flops"] == wide["flops"] > full["flops"]


@pytest.mark.slow
def test_nothing_is_said_of_a_machine_that_was_not_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "base", "--device", "h200"]) == 0
    shown = capsys.readouterr().out
    assert "h200, bf16" in shown and "109,487,617" in shown
    assert shown.count("not measured") == 2
    assert "hours" not in shown and "price" not in shown


def test_published_sizes_need_no_data_and_others_say_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config, length = planned_config(read_recipe("small"))
    assert (config.vocab_size, length) == (30528, 128)
    assert "--vocab-size" in fails(capsys, "plan", "tiny", "--device", "h200")
    assert "max_position_embeddings 512" in fails(capsys, "plan", "small", "--max-length", "1024", "--device", "h200")
    assert "max_steps is not set" in fails(capsys, "plan", "small", "--max-steps", "-1", "--device", "h200")


def test_blocks_and_tokenizers_are_what_pretrain_takes(data):
    blocks, tokenizer = data
    overrides = {"discriminator": MODEL, "max_steps": "-1", "num_train_epochs": "3"}
    recipe = read_recipe("quickstart", {**overrides, "blocks": blocks, "per_device_train_batch_size": "4"})
    expected = pair_config(recipe.model, load_tokenizer(tokenizer))
    config, length = planned_config(recipe)
    assert config.to_dict() == expected.to_dict() and length == 32
    values = plan(recipe, device="h200")
    count = read_manifest(blocks)["splits"]["train"]["blocks"]
    assert values["steps"] == 3 * (count // 4)
    assert sum(values["parameters"].values()) == ElectraRtdForPreTraining(expected).num_parameters()
    without = read_recipe("quickstart", {"discriminator": MODEL, "blocks": "nowhere", "tokenizer": tokenizer})
    assert planned_config(without)[0].to_dict() == expected.to_dict()


@pytest.mark.parametrize(
    "options",
    [
        {"discriminator_checkpoint": "rtd"},
        {"discriminator_checkpoint": "mlm"},
        {"discriminator_checkpoint": "mlm", "generator_depth": "0.34"},
        {"discriminator_checkpoint": "mlm", "generator_checkpoint": "mlm"},
        {"discriminator_checkpoint": "mlm", "generator_checkpoint": "rtd"},
        {"discriminator_checkpoint": "electric", "objective": "electric", "generator_kind": "two_tower"},
        {"discriminator_checkpoint": "electric"},
    ],
)
def test_what_goes_on_is_planned_as_it_is_loaded(options, tmp_path):
    tokenizer = tiny_tokenizer(tmp_path / "tokenizer")
    narrow = tiny_config("electra", hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    for objective, kind in (("rtd", "masked_lm"), ("mlm", "masked_lm"), ("electric", "two_tower")):
        sizes = {} if objective == "mlm" else {"generator_config": narrow, "embedding_sharing": "none"}
        fields = {**OBJECTIVE, "objective": objective, "generator_kind": kind, **sizes}
        pair = ElectraRtdForPreTraining(ElectraRtdConfig(discriminator_config=tiny_config("electra"), **fields))
        pair.save_pretrained(tmp_path / objective)
    options = {name: str(tmp_path / value) if "checkpoint" in name else value for name, value in options.items()}
    options |= {"tokenizer": str(tmp_path / "tokenizer"), "max_length": "32", "blocks": "none"}
    recipe = read_recipe("small_from_google", {"generator_checkpoint": "none", **options})
    planned, built = planned_config(recipe)[0], build_model(recipe.model, tokenizer).config
    for name in ("discriminator_config", "generator_config"):
        found, expected = (getattr(config, name).to_dict() for config in (planned, built))
        for key in expected.keys() - {"_name_or_path", "architectures", "dtype", "transformers_version"}:
            assert found[key] == expected[key], (name, key)
    if "generator_checkpoint" not in options:
        assert planned.objective_fields() == built.objective_fields()
    if options["discriminator_checkpoint"].endswith("rtd"):
        wide = read_recipe("small_from_google", {"generator_checkpoint": "none", **options, "generator_depth": "1.0"})
        for refusing in (planned_config, lambda recipe: build_model(recipe.model, tokenizer)):
            with pytest.raises(ValueError, match="generator_depth is 1.0, a num_hidden_layers of 3, but"):
                refusing(wide)


def test_bad_requests_are_refused_in_one_line(tmp_path, machine, capsys):
    assert "give a recipe" in fails(capsys, "plan")
    assert "did you mean 'learning_rate'" in fails(capsys, "plan", "tiny", "--learning-rat", "1")
    assert "price_per_hour is -1.0" in fails(capsys, "plan", "tiny", *SMALL, "--price-per-hour", "-1")
    assert "nowhere.json" in fails(capsys, "plan", "tiny", *SMALL, "--calibration", str(tmp_path / "nowhere.json"))
    assert "device is h200" in fails(capsys, "plan", "tiny", *SMALL, "--calibration", machine, "--device", "h200")
    assert "vocab_size is 2" in fails(capsys, "plan", "small", "--vocab-size", "2", "--device", "h200")
    assert "give one" in fails(capsys, "plan", "tiny", "--calibration", machine, "--calibrate", "f.json")


@pytest.mark.parametrize("option", ["--calibrate", "--json"])
def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch, capsys, option):
    monkeypatch.setattr("modeling_electra_rtd.pretraining.calibration.calibrate", None)
    for file in (tmp_path / "nowhere" / "plan.json", tmp_path):
        message = fails(capsys, "plan", "small", option, str(file))
        assert f"{option} is {str(file)!r}; it must be a file in a folder that exists" in message
