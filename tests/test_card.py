"""A card says what the records say: its metadata is read back, its snippets are run, and nothing private is in it."""

import copy
import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from helpers.cards import RECORDS, cells
from helpers.checkpoints import saved_pair
from helpers.tiny import tiny_tokenizer
from huggingface_hub import ModelCard

from modeling_electra_rtd import ElectraRtdDiscriminator
from modeling_electra_rtd.cli.main import main
from modeling_electra_rtd.common.files import NOT_MEASURED, weights_hash
from modeling_electra_rtd.common.training_arguments import ElectraRtdTrainingArguments
from modeling_electra_rtd.data.blocks import describe_text
from modeling_electra_rtd.model.configuration_electra_rtd import OBJECTIVE_FIELDS
from modeling_electra_rtd.pretraining.recipes import DataRecipe, ModelRecipe
from modeling_electra_rtd.release import export as export_module
from modeling_electra_rtd.release.card import check_picture, render_model_card, write_model_card
from modeling_electra_rtd.release.card_records import energy
from modeling_electra_rtd.release.export import export


RUN = json.loads((RECORDS / "tiny" / "run.json").read_text(encoding="utf-8"))
RELEASE = {
    "config": {"model_type": "modernbert", "architectures": ["ModernBertModel"], "hidden_activation": "gelu"},
    "generator_config": {},
    "weights_sha256": "a" * 64,
}


def tuned(name: str, /, **changes) -> dict:
    record = json.loads((RECORDS / "finetuning" / f"{name}.json").read_text(encoding="utf-8"))
    return {**record, "weights_sha256": "a" * 64, **changes}


def render(run=RUN, results=(), release=RELEASE, **options) -> ModelCard:
    return ModelCard(render_model_card("card", release, run, list(results), **options))


def test_a_card_that_knows_where_it_goes_has_code_that_runs_as_it_stands():
    release = RELEASE | {"config": RELEASE["config"] | {"auto_map": {}}}
    text = render_model_card("lab/pair", release, RUN, [tuned("mrpc")])
    assert "stands for this folder" not in text and "\n# pair\n" in text and ModelCard(text).data.model_name == "pair"
    named = re.findall(r'name = "(.+)"|from_pretrained\("(.+?)"|model="(.+?)"', text)
    assert {"".join(names) for names in named} == {"lab/pair"} and len(named) > 3
    assert "`card` stands for this folder" in render().text


def test_the_metadata_is_what_the_records_say():
    records = [tuned("mrpc"), tuned("stsb"), tuned("rte"), tuned("wnut17")]
    card = render(results=records, language=["en"], license="apache-2.0")
    data = card.data
    assert (data.language, data.license, data.library_name) == (["en"], "apache-2.0", "transformers")
    assert {"electra", "replaced-token-detection", "modernbert"} <= set(data.tags)
    assert data.base_model is None and data.pipeline_tag is None and data.model_name == "card"
    found = {(r.dataset_type, r.dataset_config, r.dataset_split, r.metric_type): r for r in data.eval_results}
    types = {"pearson": "pearsonr", "spearman": "spearmanr"}
    expected = {}
    for record, dataset in zip(records, [*["nyu-mll/glue"] * 3, "leondz/wnut_17"], strict=True):
        config = record["task"] if dataset == "nyu-mll/glue" else None
        for metric, values in record["fine_tuned"]["summary"]["validation"].items():
            if not metric.startswith(("f1_", "support")):
                expected[dataset, config, "validation", types.get(metric, metric)] = values
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        assert found[key].metric_value == values["median"]
        assert f"median of {values['seeds']} seed" in found[key].metric_name
    record = tuned("rte")
    record["fine_tuned"]["failed_seeds"] = [1]
    assert "1 of them failed" in render(results=[record]).data.eval_results[0].metric_name
    assert found["leondz/wnut_17", None, "validation", "f1"].task_type == "token-classification"
    assert set(data.metrics) == {key[-1] for key in expected}
    # Once more through the Hub's own classes: nothing is lost or added on the way.
    assert ModelCard(str(card)).data.to_dict() == data.to_dict()
    raw = yaml.safe_load(str(card).split("---\n")[1])
    assert "pipeline_tag" not in raw and "base_model" not in raw
    assert [entry["name"] for entry in raw["model-index"]] == ["card"]


def test_the_body_is_what_the_run_says():
    card = render()
    assert cells(card, "optimizer steps") == [f"{RUN['steps']:,}"]
    assert cells(card, "tokens seen") == [f"{RUN['tokens_seen']:,}"]
    assert cells(card, "training time") == [f"{RUN['training_seconds'] / 3600:.2f} hours"]
    assert cells(card, "tokens per second") == [f"{RUN['tokens_seen'] / RUN['training_seconds']:,.0f}"]
    assert cells(card, "AUC on replaced tokens") == [f"{RUN['held_out']['eval_discriminator_auc']:.4f}"]
    assert cells(card, "`muon_learning_rate`") == ["0.02"] and cells(card, "`bf16`") == ["true"]
    assert f"{RUN['parameters']['discriminator']:,}" in card.text
    assert RUN["commit"] in card.text and "AMD EPYC, 2 CPU cores" in card.text
    text = {"datasets": [], "files": ["a.txt"], "bytes": 2_500_000, "documents": 7, "tokens": 1234}
    card = render({**RUN, "data": text})
    assert cells(card, "size of the text") == ["2.5 MB"]
    assert (cells(card, "training documents"), cells(card, "training tokens")) == (["7"], ["1,234"])
    assert "Text: a.txt." in card.text


@pytest.mark.parametrize("run", [None, {"recipe": {}}, {"recipe": {}, "held_out": {}, "steps": "many", "data": None}])
def test_what_no_record_holds_is_not_measured(run):
    card = render(run)
    for name in (
        *("size of the text", "training documents", "training tokens", "epochs over them", "tokens seen"),
        *("optimizer steps", "processes", "training time", "tokens per second", "energy", "commit of electra-rtd"),
        *("generator loss, nats", "AUC on replaced tokens", "recall at one half"),
    ):
        assert cells(card, name) == [NOT_MEASURED], name
    assert cells(card, "layers") == [NOT_MEASURED] * 2
    assert f"## Fine-tuning\n\n{NOT_MEASURED}\n" in card.text
    assert card.data.eval_results is None and card.data.metrics is None
    assert "None" not in card.text and "nan" not in re.findall(r"\w+", card.text)


def test_a_resumed_run_has_no_whole_time():
    resumed = {**RUN, "resumed_from": "checkpoint-4000", "device": "NVIDIA H200", "processes": 1}
    card = render(resumed)
    for name in ("training time", "tokens per second", "energy"):
        assert cells(card, name) == [NOT_MEASURED]
    assert "was resumed" in card.text


def test_energy_is_estimated_only_where_everything_is_known():
    assert energy("NVIDIA H200", 10.0, 2).startswith("at most 14 kWh")
    for unknown in (("AMD EPYC", 1.0, 1), ("NVIDIA H200", None, 1), ("NVIDIA H200", 1.0, None), ([], 1.0, 1)):
        assert energy(*unknown) == NOT_MEASURED


def with_model(**model) -> dict:
    return {**RUN, "recipe": {**RUN["recipe"], "model": model}}


def test_a_base_model_is_named_only_where_training_continued(tmp_path):
    pair = {
        "discriminator_checkpoint": "google/electra-small-discriminator",
        "generator_checkpoint": "google/electra-small-generator",
    }
    continued = with_model(**pair)
    assert render(continued).data.base_model == list(pair.values())
    assert "continued from google/electra-small-discriminator and" in render(continued).text
    assert render({**continued, "from_hub": []}).data.base_model is None
    part = {"discriminator_checkpoint": "hf://lab/pair@v1/last", "generator_checkpoint": "lab/<b>x</b>"}
    card = render({**with_model(**part), "from_hub": ["lab/pair"]})
    assert card.data.base_model == ["lab/pair"]
    part["discriminator_checkpoint"] = "lab/pair@v1/last"
    assert "continued from lab/pair@v1/last and" in render({**with_model(**part), "from_hub": ["lab/pair"]}).text
    local = with_model(discriminator_checkpoint=str(tmp_path / "mine"))
    assert render(local).data.base_model is None
    assert "continued from a checkpoint on disk, mine." in render(local).text
    assert "random weights" in render().text and "random weights" not in render(local).text.split("## ")[0]


def recipe_of(section: str, **values) -> dict:
    return {**RUN, "recipe": {**RUN["recipe"], section: {**RUN["recipe"][section], **values}}}


# What a card does not show among the settings, by the reason.
NOT_SETTINGS = {
    "data": {
        "the text of a card": "blocks corpus dataset dataset_name dataset_split text_column documents",
        "the held-out text": "validation_blocks",
        "the tokenizer of the release": "tokenizer",
    },
    "model": {
        "the sizes of a card": "discriminator generator",
        "what the card says training continued from": "discriminator_checkpoint generator_checkpoint",
        "ids of tokens": "mask_token_id special_token_ids number_of_tokens",
    },
    "training": {
        "under Held-out text": "evaluation_blocks",
        "the same corruption for all": "evaluation_corruption_seed",
        "no part of training": "health_checks logging_nan_inf_filter max_skipped_steps report_to",
        "of no effect on results": "ddp_find_unused_parameters remove_unused_columns",
    },
}


def settings_of(section: str) -> list[str]:
    """Every field that this package gives a recipe, but for those that are no setting of the training."""
    fields = {
        "data": [field.name for field in dataclasses.fields(DataRecipe)],
        "model": [*(field.name for field in dataclasses.fields(ModelRecipe)), *OBJECTIVE_FIELDS],
        "training": list(ElectraRtdTrainingArguments.__annotations__),
    }[section]
    excluded = " ".join(NOT_SETTINGS[section].values()).split()
    assert set(excluded) <= set(fields)
    return [name for name in dict.fromkeys(fields) if name not in excluded]


@pytest.mark.parametrize("section", ["data", "model", "training"])
def test_a_card_names_every_setting_that_is_not_the_default(section):
    for name in settings_of(section):
        # No default is as large, and a word stands for itself.
        for value, shown in ((77, "77"), ("other", "other")):
            assert cells(render(recipe_of(section, **{name: value})), f"`{name}`") == [shown], name
    assert settings_of(section)


def test_settings_that_are_seldom_set_are_left_out_at_their_defaults():
    at_defaults = recipe_of("training", adam_update_clipping=False, muon_momentum=0.95, decay_steps=0.2)
    assert str(render(at_defaults)) == str(render())
    # A run from a checkpoint may have its objective from there.
    learned = {"objective": "rtd", "masking_strategy": "span", "disallow_correct": False, "mask_token_id": 103}
    card = render(with_model(discriminator_checkpoint="mine"), objective=learned)
    assert cells(card, "`masking_strategy`") == ["span"]
    assert "disallow_correct" not in card.text and "mask_token_id" not in card.text


SCHEDULE = "Adam has bias correction. The learning rate warms up and then decays; the reference multiplies both."
PACKED = "Text is packed into full blocks, and documents in one block do not see each other."
INITIALISED = "- Initialisation is that of `transformers`.\n"
SHOWN = "Some of the chosen positions show the word itself instead of `[MASK]`, as in the reference"
ALL_MASKED = "Every chosen position shows `[MASK]`, as in the paper's text; its code shows the word itself at some."


def test_differences_from_the_reference_are_those_of_the_run():
    text = render().text
    assert all(said in text for said in (SCHEDULE, PACKED, INITIALISED, SHOWN)) and ALL_MASKED not in text
    for changed in (
        recipe_of("training", lr_scheduler_type="constant"),
        recipe_of("training", lr_scheduler_type="constant_with_warmup"),
        recipe_of("training", warmup_steps=0),
    ):
        schedule = changed["recipe"]["training"]["lr_scheduler_type"]
        text = render(changed).text
        assert SCHEDULE not in text and f"The learning rate has the schedule `{schedule}`; that of the" in text
    text = render(recipe_of("model", mask_token_probability=1.0)).text
    assert SHOWN not in text and f"- {ALL_MASKED}\n" in text
    assert ALL_MASKED in render(objective={"mask_token_probability": 1}).text
    for noise in ({"generator_kind": "unigram"}, {"objective": "electric", "generator_kind": "two_tower"}):
        text = render(objective=noise).text
        assert SHOWN not in text and ALL_MASKED not in text
    assert SHOWN in render(objective={"objective": "mlm"}).text
    # The trainer's own record, without a recipe: nothing is known of the text and of the first weights.
    text = render({**RUN, "recipe": {"training": RUN["recipe"]["training"], "model": {}}}).text
    assert PACKED not in text and "Initialisation" not in text and SCHEDULE in text


def test_where_the_first_weights_came_from_is_said_of_each_network():
    discriminator = RUN["recipe"]["model"]["discriminator"]
    continued = with_model(discriminator=None, discriminator_checkpoint="runs/pair")
    text = render({**continued, "from_hub": []}).text
    assert "Training continued from a checkpoint on disk, pair." in text and "Initialisation" not in text
    beside = with_model(discriminator=discriminator, generator_checkpoint="runs/old")
    text = render({**beside, "from_hub": []}).text
    said = "The discriminator began with random weights, the generator with those of a checkpoint on disk, old."
    assert said in text and "- Initialisation of the discriminator is that of `transformers`.\n" in text
    assert "Training continued from" not in text and "Training began" not in text


def test_a_release_without_a_run_claims_nothing_of_its_training():
    text = render(None).text
    assert "Where the training differs" not in text and "have the defaults of that version" not in text
    assert "Settings of the objective, the optimizer and their schedules that are not named have" in render().text


def test_a_converted_release_says_from_what_and_what_was_left_out():
    card = render(None, origin="small, a DeBERTaV3 pair", left_out=["the mask | decoder", "weights: a/b, <c>"])
    assert "Converted by electra-rtd from small, a DeBERTaV3 pair; other code trained it.\n" in card.text
    assert "The conversion left out:\n\n- the mask \\| decoder\n- weights: a/b, &lt;c>\n\n| |" in card.text
    assert "Where the conversion left out a part of the head, as said above, its outputs are not those of" in card.text
    training = "## Training\n\nOther code trained this model. Its text, its settings and what it reached on held-out"
    assert training in card.text and "## Fine-tuning\n\nnot measured\n" in card.text
    for said in ("Made with", "Where the training differs", "## Training data", "commit of", "defaults of"):
        assert said not in card.text
    assert "left out" not in render(None, origin="a checkpoint of the original ELECTRA code").text
    assert "Made with electra-rtd 0.1.0.\n" in render().text and "onverted" not in render().text


def test_a_card_of_electric_judges_no_energies_by_one_half():
    text = render(objective={"objective": "electric", "generator_kind": "unigram"}).text
    assert "| AUC on replaced tokens |" in text and "at one half" not in text


def test_data_sets_of_the_hub_are_named_and_folders_are_not():
    data = {"dataset": "wikimedia/wikipedia"}
    run = {**RUN, "recipe": {**RUN["recipe"], "data": data}, "from_hub": ["wikimedia/wikipedia"]}
    assert render(run).data.datasets == ["wikimedia/wikipedia"]
    card = render({**run, "from_hub": []})
    assert card.data.datasets is None and "Text: wikipedia." in card.text


def test_hostile_records_do_not_leak():
    secret = "hf_" + "A1b2C3d4" * 4
    run = copy.deepcopy(RUN)
    run["recipe"]["data"] = {
        "blocks": "/home/alice/blocks",
        "corpus": ["/home/alice/secret plans/text.txt", "C:\\Users\\alice\\b.txt", f"~alice/{secret}"],
        "tokenizer": "/home/alice/tokenizer",
    }
    run["recipe"]["training"] |= {"output_dir": "/home/alice/out", "hub_token": secret, "optim": "/home/alice/adamw"}
    run["recipe"]["model"] = {"discriminator_checkpoint": "/home/alice/pair"}
    run["device"] = "CPU | of /home/alice/machine <b>"
    run["commit"] = f"{secret} {{{{ 7 * 7 }}}}"
    record = tuned("mrpc", task="/home/alice/my|task")
    train = "/home/alice in wonderland/train.tsv"
    record["data"] = {
        **record["data"],
        "sources": {"train": train, "validation": f"2% of {train}"},
        "stand_ins": {"train": "/home/alice/part.tsv", "validation": f"2% of {train}, by a hash of the text"},
    }
    record["settings"] = {**record["settings"], "output_dir": "/home/alice/out"}
    card = str(render(run, [record], curves="curves.png"))
    assert "alice" not in card and secret not in card and "wonderland" not in card
    assert "/home" not in card and "Users" not in card and "49" not in card.split("commit of")[1].splitlines()[0]
    assert "my\\|task" in card and "2% of train.tsv, by a hash" in card and "part.tsv" in card
    assert "text.txt, b.txt" in card and "&lt;b>" in card
    with pytest.raises(ValueError, match="would show"):
        render(curves="/home/alice/curves.png")
    manifest = {
        "sources": [{"path": "/home/alice/b.txt", "bytes": 3}, {"path": "a.txt", "bytes": 4}],
        "splits": {"train": {"documents": 2, "tokens": 9, "blocks": 1, "positions": 128}},
    }
    described = describe_text(manifest)
    assert described["files"] == ["a.txt", "b.txt"] and described["bytes"] == 7


def test_results_of_other_weights_or_other_data_are_not_this_model_s():
    with pytest.raises(ValueError, match="'mrpc' began with other weights"):
        render(results=[tuned("mrpc", weights_sha256="b" * 64)])
    assert "| mrpc |" in render(results=[tuned("mrpc", weights_sha256="b" * 64)], also_weights="b" * 64).text
    unsure = render(results=[tuned("mrpc", weights_sha256=None)])
    assert "record of mrpc does not say which weights" in unsure.text
    with pytest.raises(ValueError, match="2 records of 'mrpc'"):
        render(results=[tuned("mrpc"), tuned("mrpc")])
    record = tuned("mrpc")
    stand_in = {**record["data"], "stand_ins": {"validation": "part.tsv"}}
    own = {**record["data"], "sources": {"train": "train.csv", "validation": "dev.csv"}}
    for changed in (stand_in, own):
        card = render(results=[{**record, "data": changed}])
        assert card.data.eval_results is None and "| mrpc" in card.text
    assert render(results=[tuned("mrpc", task="topics")]).data.eval_results is None
    # Both validation splits of MNLI are named as the Hub names them.
    summary = record["fine_tuned"]["summary"]["validation"]
    splits = {"validation": summary, "validation_mismatched": summary}
    fine_tuned = {**record["fine_tuned"], "summary": splits}
    mnli = tuned("mrpc", task="mnli", validation_splits=list(splits), fine_tuned=fine_tuned)
    mnli["trivial"] = dict.fromkeys(splits, record["trivial"]["validation"])
    mnli["data"]["sources"] = {name: f"MNLI/dev_{name[11:] or 'matched'}.tsv" for name in splits}
    found = {result.dataset_split for result in render(results=[mnli]).data.eval_results}
    assert found == {"validation_matched", "validation_mismatched"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language": ["English"]}, "language is 'English'"),
        ({"license": "My Licence"}, "license is 'My Licence'"),
        ({"run": {"steps": 3}}, "no record of electra-rtd pretrain"),
        ({"run": {"recipe": {"data": "a.txt"}}}, "no record of electra-rtd pretrain"),
        ({"results": [RUN]}, "no record of electra-rtd finetune"),
    ],
)
def test_what_is_no_record_or_identifier_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        render(**options)


def run_snippets(card: str, folder: Path, monkeypatch) -> str:
    """What the Python of a card prints, each piece by itself, in a process that cannot import this package; the piece
    that is there to import it runs in this one."""
    pieces = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    own = [code for code in pieces if "modeling_electra_rtd" in code]
    alone = [code for code in pieces if code not in own]
    assert (len(own), len(alone)) == (1, 4)
    monkeypatch.chdir(folder)
    exec(own[0], {})
    code = f"import sys; sys.modules['modeling_electra_rtd'] = None\nfor code in {alone!r}: exec(code, {{}})"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(folder / "modules")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("family", ["electra", pytest.param("modernbert", marks=pytest.mark.slow)])
def test_a_release_has_a_card_whose_code_runs(family, tmp_path, monkeypatch):
    saved_pair(tmp_path / "run", family)
    (tmp_path / "run" / "run.json").write_text(json.dumps(RUN), encoding="utf-8")
    (tmp_path / "run" / "curves.png").write_bytes((RECORDS / "tiny" / "curves.png").read_bytes())
    export(str(tmp_path / "run"), str(tmp_path / "release"), language=["en"], license="mit")
    release = tmp_path / "release"
    card = ModelCard.load(release / "README.md")
    assert card.data.license == "mit" and family in card.data.tags
    assert cells(card, "layers") == ["3", "3" if family == "electra" else "2"]
    assert "![training curves](curves.png)" in card.text and (release / "curves.png").is_file()
    assert cells(card, "optimizer steps") == [f"{RUN['steps']:,}"]
    printed = run_snippets(str(card), tmp_path, monkeypatch)
    # The probabilities that the pipeline and then stock classes print are those of the discriminator that was trained.
    shown = [float(line.split()[0]) for line in printed.splitlines()]
    batch = tiny_tokenizer()("The river flows quietly into the keyboard.", return_tensors="pt")
    with torch.no_grad():
        model = ElectraRtdDiscriminator.from_pretrained(tmp_path / "run").eval()
        expected = model(batch["input_ids"], batch["attention_mask"]).logits[0].sigmoid().tolist()
    assert shown == pytest.approx([*expected[1:-1], *expected], abs=6e-4)


def test_results_stand_in_the_card_of_the_release_they_began_with(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(export_module, "verify_release", lambda model, root: {})
    saved_pair(tmp_path / "run")
    export(str(tmp_path / "run"), str(tmp_path / "first"))
    assert NOT_MEASURED in (tmp_path / "first" / "README.md").read_text(encoding="utf-8")
    path = tmp_path / "record.json"
    command = ["export", str(tmp_path / "run"), "--results", str(path), "--language", "en", "--license", "mit"]
    for number, folder in enumerate(("first", "run")):
        path.write_text(json.dumps(tuned("mrpc", weights_sha256=weights_hash(tmp_path / folder))), encoding="utf-8")
        assert main([*command, "--output-dir", str(tmp_path / f"release-{number}")]) == 0
        card = ModelCard.load(tmp_path / f"release-{number}" / "README.md")
        assert card.data.eval_results[0].dataset_config == "mrpc" and card.data.model_name == f"release-{number}"
    path.write_text(json.dumps(tuned("mrpc")), encoding="utf-8")
    capsys.readouterr()
    assert main([*command, "--output-dir", str(tmp_path / "none")]) == 2
    assert "began with other weights" in capsys.readouterr().err
    assert not (tmp_path / "none").exists() and not list(tmp_path.glob(".none*"))
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="is not JSON"):
        write_model_card(tmp_path / "first", tmp_path / "broken.json")


@pytest.mark.parametrize("attack", ["[x](javascript:alert(1))", "![x](http://tracker/x.png)", "[x][y]", "<script>"])
def test_markup_of_a_record_is_text_in_the_card(attack):
    run = copy.deepcopy(RUN)
    run["device"] = f"CPU {attack}"
    card = render(run).text
    assert "CPU " in card and attack not in card and "](javascript:" not in card and "](http://tracker" not in card


def test_a_picture_is_a_png_of_the_run(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("token", encoding="utf-8")
    (tmp_path / "run").mkdir()
    picture = tmp_path / "run" / "curves.png"
    picture.symlink_to(secret)
    with pytest.raises(ValueError, match="curves.png is a link to .*secret.txt"):
        check_picture(picture)
    picture.unlink()
    picture.write_text("token", encoding="utf-8")
    with pytest.raises(ValueError, match="curves.png is not a PNG"):
        check_picture(picture)
    check_picture(RECORDS / "tiny" / "curves.png")
