"""Recipes: every shipped one loads and names real things; whatever is wrong is refused by name."""

import dataclasses

import pytest
import yaml

from modeling_electra_rtd import ElectraRtdTrainingArguments
from modeling_electra_rtd.common.recipe_files import configuration_folder, find_recipe
from modeling_electra_rtd.model.rules import CHOICES
from modeling_electra_rtd.pretraining.recipes import DataRecipe, ModelRecipe, build_recipe, model_config, read_recipe


SHIPPED = sorted(path.stem for path in (configuration_folder() / "pretrain").glob("*.yaml"))
TINY = {"model_type": "electra", "vocab_size": 60, "hidden_size": 32, "num_attention_heads": 2}


def write(folder, **sections):
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(sections))
    return str(path)


def minimal(**training):
    return {
        "data": {"blocks": "blocks"},
        "model": {"discriminator": dict(TINY)},
        "training": {"output_dir": "out", **training},
    }


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_is_valid(name):
    recipe = read_recipe(name)
    assert recipe.training.max_steps > 0
    assert recipe.data.blocks


@pytest.mark.parametrize(
    ("name", "values"),
    [
        # Clark et al. 2020, table 6: batch, learning rate, steps, mask share, generator width.
        ("small", (128, 5e-4, 1_000_000, 0.15, 64, 128)),
        ("base", (256, 2e-4, 766_000, 0.15, 256, 512)),
        ("large", (2048, 2e-4, 400_000, 0.25, 256, 512)),
    ],
)
def test_the_paper_recipes_are_the_papers(name, values):
    from modeling_electra_rtd.model.backbones import generator_config_for

    recipe = read_recipe(name)
    training = recipe.training
    generator = generator_config_for(model_config(recipe.model.discriminator), recipe.model.generator_width)
    batch = training.per_device_train_batch_size * training.gradient_accumulation_steps
    found = (
        batch,
        training.learning_rate,
        training.max_steps,
        recipe.model.mask_probability,
        generator.hidden_size,
        recipe.data.max_length,
    )
    assert found == values
    assert training.get_warmup_steps(training.max_steps) == 10_000


def test_no_field_name_means_two_things():
    fields = [{field.name for field in dataclasses.fields(owner)} for owner in (DataRecipe, ModelRecipe)]
    fields.append({field.name for field in dataclasses.fields(ElectraRtdTrainingArguments)})
    for i, one in enumerate(fields):
        for other in fields[i + 1 :]:
            assert not one & other


def test_numbers_that_yaml_reads_as_text_are_numbers(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "data: {blocks: b}\nmodel: {discriminator: {model_type: electra}}\n"
        "training: {output_dir: o, learning_rate: 5e-4, max_steps: 1e3, adam_epsilon: '1e-6'}\n"
    )
    assert isinstance(yaml.safe_load(path.read_text())["training"]["learning_rate"], str)
    training = read_recipe(str(path)).training
    assert (training.learning_rate, training.max_steps, training.adam_epsilon) == (5e-4, 1000, 1e-6)


def test_options_win_over_the_file_whatever_their_section(tmp_path):
    path = write(tmp_path, **minimal())
    overrides = {
        "learning_rate": "1e-4",
        "mask_probability": "0.3",
        "blocks": "elsewhere",
        "bf16": "true",
        "muon_learning_rate": "none",
    }
    recipe = read_recipe(path, overrides)
    assert recipe.training.learning_rate == 1e-4
    assert recipe.model.mask_probability == 0.3
    assert recipe.data.blocks == "elsewhere"
    assert recipe.training.bf16 is True
    assert recipe.training.muon_learning_rate is None


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in CHOICES.items() for value in values])
def test_every_choice_arrives_also_where_it_is_the_word_none(name, value, tmp_path):
    content = minimal()
    content["model"][name] = value
    for recipe in (read_recipe(write(tmp_path, **content)), read_recipe(write(tmp_path, **minimal()), {name: value})):
        assert recipe.model.objective_fields()[name] == value
    assert read_recipe(write(tmp_path, **minimal()), {name: "null"}).model.objective_fields().get(name) is None


@pytest.mark.parametrize("word", ["none", "None", "NONE"])
def test_none_is_a_word_however_it_is_written(word, tmp_path):
    recipe = read_recipe(write(tmp_path, **minimal()), {"report_to": word, "embedding_sharing": word})
    assert recipe.training.report_to == [] and recipe.model.embedding_sharing == "none"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("training", "learning_rat", 1e-3), "unknown key 'learning_rat'; did you mean 'learning_rate'"),
        (("data", "block", "b"), "unknown key 'block'; did you mean 'blocks'"),
        (("model", "mask_probabilty", 0.1), "did you mean 'mask_probability'"),
        (("training", "learning_rate", "fast"), "training.learning_rate is 'fast'; it must be float"),
        (("training", "max_steps", 2.5), "training.max_steps is 2.5; it must be int"),
        (("training", "bf16", "maybe"), "training.bf16 is 'maybe'"),
        (("data", "blocks", ["a"]), "data.blocks is"),
        (("training", "learning_rate", -1.0), "learning_rate is -1.0"),
        (("model", "discriminator", {**TINY, "hidden_sze": 3}), "unknown electra field 'hidden_sze'"),
        (("model", "discriminator", {**TINY, "num_attention_heads": 5}), "num_attention_heads 5 does not divide"),
        (("model", "discriminator", {**TINY, "hidden_size": -4}), "hidden_size is -4"),
        (("model", "discriminator", {**TINY, "hidden_size": "wide"}), "hidden_size"),
        (("model", "discriminator", {"model_type": "elektra"}), "did you mean 'electra'"),
        (("model", "discriminator", "smal.json"), "did you mean 'small.json'"),
        (("model", "discriminator_checkpoint", "x"), "give discriminator"),
        (("model", None, {"discriminator": TINY, "generator": TINY, "generator_checkpoint": "x"}), "one"),
        (("model", "freeze_generator", True), "freeze_generator needs a generator that has learned"),
        (("data", "corpus", ["x"]), "both set"),
        (
            ("model", None, {"discriminator_checkpoint": "x", "generator": TINY}),
            "generator goes with discriminator, both from scratch",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, said):
    section, key, value = change
    values = minimal()
    values[section] = value if key is None else {**values[section], key: value}
    with pytest.raises(ValueError, match=".*") as error:
        build_recipe(values)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_options_sections_and_recipes_are_refused(tmp_path):
    path = write(tmp_path, **minimal())
    with pytest.raises(ValueError, match="unknown option --learning-rat; did you mean 'learning_rate'"):
        read_recipe(path, {"learning_rat": "1"})
    with pytest.raises(ValueError, match="unknown section 'trainig'; did you mean 'training'"):
        read_recipe(write(tmp_path, **minimal(), trainig={}))
    with pytest.raises(ValueError, match="no recipe 'tinny'; did you mean 'tiny'"):
        find_recipe("tinny", "pretrain")
    broken = tmp_path / "broken.yaml"
    broken.write_text("data: [unclosed\n")
    with pytest.raises(ValueError, match="not YAML"):
        read_recipe(str(broken))


def test_a_stream_needs_a_tokenizer():
    with pytest.raises(ValueError, match="needs a tokenizer"):
        DataRecipe(corpus=["x"])


def test_a_token_in_a_recipe_is_refused_before_it_is_written(tmp_path):
    values = {"model": {"discriminator": "small.json"}, "training": {"output_dir": str(tmp_path / "run")}}
    values["training"] |= {"push_to_hub": True, "hub_token": "hf_" + "t" * 34}
    with pytest.raises(ValueError, match="hub_token is set.*HF_TOKEN") as refused:
        build_recipe(values)
    assert "ttt" not in str(refused.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("training:\n  seed: 1\n  seed: 2\n", "line 2: key 'seed' stands there twice"),
        ("training:\n  seed: 1\ntraining:\n  seed: 2\n", "line 1: key 'training' stands there twice"),
        ("a: &a [x, x]\nb: &b [*a, *a]\ntraining: {run_name: [*b, *b]}\n", "line 2: *a is an alias"),
        ("training:\n  run_name: !!python/object/apply:os.system [ls]\n", "not YAML: could not determine"),
    ],
)
def test_yaml_is_what_it_seems(content, says, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError) as error:
        read_recipe(str(path))
    assert says in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("{a: ", "--lr-scheduler-kwargs is '{a: '; it must be YAML"),
        ("{a: 1, a: 2}", "key 'a' stands there twice"),
        ("[!!python/name:os.system ]", "it must be YAML"),
    ],
)
def test_an_option_that_is_not_yaml_is_named(option, says):
    with pytest.raises(ValueError) as error:
        read_recipe("tiny", {"output_dir": "runs", "lr_scheduler_kwargs": option})
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_message_stays_short():
    with pytest.raises(ValueError, match=r"^unknown option --zzzzzz; none of the \d+ allowed names is like it$"):
        read_recipe("tiny", {"output_dir": "runs", "zzzzzz": "1"})
    with pytest.raises(ValueError) as error:
        build_recipe({"data": {}, "model": {}, "training": {"max_steps": "9" * 10**6 + "x"}})
    assert len(str(error.value)) < 200
