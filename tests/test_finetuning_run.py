"""Whole runs on a small task in the official layout: seeds, baselines, record, resume, submissions, refusals."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.finetuning import checkpoint
from helpers.tiny import tiny_tokenizer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from modeling_electra_rtd.common.recipe_files import configuration_folder
from modeling_electra_rtd.finetuning import seed_run as module
from modeling_electra_rtd.finetuning.own_task import own_task
from modeling_electra_rtd.finetuning.reading import read_task
from modeling_electra_rtd.finetuning.recipes import kind_options, read_finetuning_recipe
from modeling_electra_rtd.finetuning.run import finetune
from modeling_electra_rtd.finetuning.suite import finetune_set, read_diagnostics
from modeling_electra_rtd.finetuning.tasks import TASKS


QUICK = {"num_train_epochs": 12, "learning_rate": 1e-2, "per_device_train_batch_size": 8, "disable_tqdm": True}
SHIPPED = sorted(path.stem for path in (configuration_folder() / "finetune").glob("*.yaml"))
NLI = ("entailment", "neutral", "contradiction")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> str:
    """CoLA: is there a cat? MNLI: three words say which label."""
    folder = tmp_path_factory.mktemp("glue")
    animals = ["cat", "dog"]
    rows = [(i % 2, f"the {animals[i % 2]} sat on a mat" + " and sat" * (i % 3)) for i in range(40)]
    lines = "".join(f"source\t{label}\t\t{text}\n" for label, text in rows)
    (folder / "CoLA").mkdir()
    for name in ("train", "dev"):
        (folder / "CoLA" / f"{name}.tsv").write_text(lines)
    (folder / "CoLA" / "test.tsv").write_text("index\tsentence\n0\tthe dog sat\n1\tthe cat sat\n")
    (folder / "MNLI").mkdir()
    words = ["cat", "dog", "mat"]
    header = "index\tsentence1\tsentence2\tgold_label\n"
    lines = "".join(f"{i}\tthe {words[i % 3]} sat\ta mat\t{NLI[i % 3]}\n" for i in range(30))
    for name in ("train_subset10k", "dev_matched", "dev_mismatched"):
        (folder / "MNLI" / f"{name}.tsv").write_text(header + lines)
    (folder / "AX").mkdir()
    (folder / "AX" / "diagnostic.tsv").write_text("index\tsentence1\tsentence2\n0\tthe cat sat\ta mat\n")
    return str(folder)


@pytest.fixture(scope="module")
def done(model, data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "cola"
    record = finetune(TASKS["cola"], read_task(TASKS["cola"], data_dir), model, str(folder), [0, 1, 2], QUICK)
    return folder, record


def test_every_seed_and_baseline_is_in_the_record(done):
    folder, record = done
    assert json.loads((folder / "record.json").read_text()) == json.loads(json.dumps(record, default=float))
    assert [run["seed"] for run in record["fine_tuned"]["runs"]] == [0, 1, 2]
    assert [run["seed"] for run in record["from_scratch"]["runs"]] == [0]
    tuned = record["fine_tuned"]["summary"]["validation"]["matthews_correlation"]
    assert tuned["seeds"] == 3 and tuned["median"] == 1.0
    assert record["trivial"]["validation"]["matthews_correlation"] == 0.0
    assert record["settings"]["layerwise_lr_decay"] == 0.8 and record["settings"]["num_train_epochs"] == 12
    assert record["versions"]["torch"] and record["data"]["examples"] == {"train": 40, "validation": 40, "test": 2}
    assert not record["selected_on_validation"]


def test_what_lies_in_the_folder(done):
    folder, record = done
    assert "| cola | matthews_correlation | **1** |" in (folder / "table.md").read_text()
    for name in ("curves.png", "confusion.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    lines = (folder / "seed-0" / "predictions_validation.jsonl").read_text().splitlines()
    assert set(lines) == {'"acceptable"', '"unacceptable"'} and len(lines) == 40
    assert (folder / "submission" / "CoLA.tsv").read_text() == "index\tprediction\n0\t1\n1\t0\n"
    assert not list(folder.rglob("*.bin"))
    assert not list(folder.glob("*/checkpoint-*")) and not (folder / "from-scratch-0" / "model.safetensors").exists()


def test_a_fine_tuned_model_is_a_stock_checkpoint(done):
    folder, _ = done
    model, info = AutoModelForSequenceClassification.from_pretrained(folder / "seed-1", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    tokenizer = AutoTokenizer.from_pretrained(folder / "seed-1")
    logits = model.eval()(**tokenizer("the dog sat on a mat", return_tensors="pt")).logits
    assert model.config.id2label[int(logits.argmax())] == "acceptable"


def test_resuming_keeps_the_seeds_that_are_done(done, model, data_dir, monkeypatch, tmp_path):
    data = read_task(TASKS["cola"], data_dir)
    folder = tmp_path / "run"
    trained = []
    train = module.FinetuningTrainer.train

    def counted(self, *args, **kwargs):
        trained.append(self.args.seed)
        if self.args.seed == 1 and len(trained) == 2:
            raise KeyboardInterrupt
        return train(self, *args, **kwargs)

    monkeypatch.setattr(module.FinetuningTrainer, "train", counted)
    with pytest.raises(KeyboardInterrupt):
        finetune(TASKS["cola"], data, model, str(folder), [0, 1, 2], QUICK)
    resumed = finetune(TASKS["cola"], data, model, str(folder), [0, 1, 2], QUICK, resume=True)
    # Seed 0 once, seed 1 twice, seed 2 once, and the baseline.
    assert trained == [0, 1, 1, 2, 0]
    uninterrupted = done[1]["fine_tuned"]["runs"]
    for expected, found in zip(uninterrupted, resumed["fine_tuned"]["runs"], strict=True):
        assert found["metrics"] == expected["metrics"]
        losses = [[entry["loss"] for entry in run["log"] if "loss" in entry] for run in (expected, found)]
        assert losses[0] == losses[1]
    # How many baselines there are decides no result: more are added, none is lost; and data may be named otherwise.
    elsewhere = read_task(TASKS["cola"], os.path.relpath(data_dir))
    for asked, more in ((2, [1]), (0, [])):
        before = len(trained)
        values = {**QUICK, "from_scratch_seeds": asked}
        resumed = finetune(TASKS["cola"], elsewhere, model, str(folder), [0, 1, 2], values, resume=True)
        assert trained[before:] == more
        assert [run["seed"] for run in resumed["from_scratch"]["runs"]] == [0, 1]


def test_a_set_of_tasks_has_one_table_and_the_diagnostics(model, data_dir, tmp_path):
    tasks = [TASKS["cola"], TASKS["mnli"]]
    values = {**QUICK, "from_scratch_seeds": 0, "num_train_epochs": 1}
    records = finetune_set(tasks, model, str(tmp_path / "set"), [0], values, data_dir=data_dir)
    assert [record["task"] for record in records] == ["cola", "mnli"]
    table = (tmp_path / "set" / "table.md").read_text()
    assert "| cola |" in table and "| mnli\\* |" in table and "| mnli (mismatched)\\* |" in table
    assert "train is train_subset10k.tsv" in table
    shown = (tmp_path / "set" / "mnli" / "submission" / "AX.tsv").read_text().splitlines()
    assert shown[0] == "index\tprediction" and shown[1].split("\t")[1] in NLI
    collected = tmp_path / "set" / "submission"
    assert sorted(path.name for path in collected.iterdir()) == ["AX.tsv", "CoLA.tsv"]
    assert (collected / "AX.tsv").read_text().splitlines() == shown
    # What is submitted for AX is what the fine-tuned model says, not a new head.
    best = AutoModelForSequenceClassification.from_pretrained(tmp_path / "set" / "mnli" / "seed-0")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "set" / "mnli" / "seed-0")
    logits = best.eval()(**tokenizer("the cat sat", "a mat", return_tensors="pt")).logits
    assert shown[1].split("\t")[1] == best.config.id2label[int(logits.argmax())]
    again = finetune_set(tasks, model, str(tmp_path / "set"), [0], values, data_dir=data_dir, resume=True)
    assert [record["seconds"] for record in again] == [record["seconds"] for record in records]
    values = {**values, "from_scratch_seeds": 1}
    cola, _ = finetune_set(tasks, model, str(tmp_path / "set"), [0], values, data_dir=data_dir, resume=True)
    assert [run["seed"] for run in cola["from_scratch"]["runs"]] == [0]


def test_early_stopping_is_said(model, data_dir, tmp_path):
    values = {**QUICK, "early_stopping_patience": 1, "num_train_epochs": 6, "from_scratch_seeds": 0}
    data = read_task(TASKS["cola"], data_dir)
    record = finetune(TASKS["cola"], data, model, str(tmp_path / "run"), [0], values)
    assert record["selected_on_validation"]
    run = record["fine_tuned"]["runs"][0]
    assert run["best_checkpoint_step"] <= run["steps"]
    assert "selected on the split that is shown" in (tmp_path / "run" / "table.md").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [0, 0]}, "seeds are"),
        ({"seeds": []}, "seeds are"),
        ({"resume": True}, "nothing to resume"),
    ],
)
def test_refused_before_any_work(model, data_dir, tmp_path, changes, message):
    arguments = {"seeds": [0], "values": QUICK, **changes}
    with pytest.raises(ValueError, match=message):
        finetune(TASKS["cola"], read_task(TASKS["cola"], data_dir), model, str(tmp_path / "run"), **arguments)
    assert not (tmp_path / "run").exists()


def test_a_taken_folder_and_a_foreign_tokenizer_are_refused(model, data_dir, tmp_path):
    data = read_task(TASKS["cola"], data_dir)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="already holds something"):
        finetune(TASKS["cola"], data, model, str(tmp_path / "taken"), [0], QUICK)
    for number, (overrides, message) in enumerate(
        [
            ({"vocab_size": len(tiny_tokenizer()) - 5}, "tokenizer has 150 tokens, .* 145; the tokenizer is another"),
            ({"vocab_size": 2 * len(tiny_tokenizer())}, "tokenizer has 150 tokens, .* 300; the tokenizer is another"),
        ]
    ):
        foreign = checkpoint(tmp_path / f"foreign-{number}", **overrides)
        with pytest.raises(ValueError, match=message):
            finetune(TASKS["cola"], data, foreign, str(tmp_path / "run"), [0], QUICK)
    assert not (tmp_path / "run").exists()


def test_another_pad_token_in_the_config_is_said_with_its_remedy(data_dir, tmp_path, caplog):
    padded = checkpoint(tmp_path / "checkpoint", pad_token_id=1)
    values = QUICK | {"num_train_epochs": 1}
    record = finetune(TASKS["cola"], read_task(TASKS["cola"], data_dir), padded, str(tmp_path / "run"), [0], values)
    assert record["fine_tuned"]["runs"][0]["steps"] == 5
    said = [message for message in caplog.messages if "set pad_token_id to 0 in config.json" in message]
    assert len(said) == 1 and padded in said[0]


@pytest.mark.parametrize(
    "path", sorted((configuration_folder() / "finetune").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_shipped_recipe_runs(path, model, data_dir, tmp_path):
    values = read_finetuning_recipe(str(path), {"max_steps": "2", "from_scratch_seeds": "0", "disable_tqdm": "true"})
    record = finetune(TASKS["cola"], read_task(TASKS["cola"], data_dir), model, str(tmp_path / "run"), [0], values)
    assert record["fine_tuned"]["runs"][0]["steps"] == 2
    assert record["settings"]["learning_rate"] == values["learning_rate"]


def test_recipe_keys_are_checked():
    with pytest.raises(ValueError, match="unknown option --layerwise-lr-decai; did you mean 'layerwise_lr_decay'"):
        read_finetuning_recipe(None, {"layerwise_lr_decai": "0.9"})
    with pytest.raises(ValueError, match="--seeds"):
        read_finetuning_recipe(None, {"seed": "3"})
    assert read_finetuning_recipe("reference")["last_layer_exponent"] == 2


def test_a_run_that_diverged_is_named_and_counts(model, tmp_path):
    folder = tmp_path / "data" / "STS-B"
    folder.mkdir(parents=True)
    rows = "".join(f"the cat\ta mat{' and' * (i % 3)}\t{i % 6}\n" for i in range(24))
    for name in ("train", "dev"):
        (folder / f"{name}.tsv").write_text("sentence1\tsentence2\tscore\n" + rows)
    values = {**QUICK, "num_train_epochs": 1, "learning_rate": 1e30, "warmup_steps": 0, "from_scratch_seeds": 0}
    data = read_task(TASKS["stsb"], str(tmp_path / "data"))
    record = finetune(TASKS["stsb"], data, model, str(tmp_path / "run"), [0], values)
    assert record["fine_tuned"]["failed_seeds"] == [0]
    assert record["fine_tuned"]["summary"]["validation"]["spearman"]["median"] == 0.0
    assert "failed seeds 0" in (tmp_path / "run" / "table.md").read_text()


def test_options_of_a_kind_go_to_it_and_to_no_other(model, data_dir, tmp_path):
    values = read_finetuning_recipe(None, {"doc_stride": "64", "learning_rate": "1e-3"})
    assert values == {"doc_stride": 64, "learning_rate": 1e-3}
    assert kind_options(values, TASKS["squad"]) == ({"learning_rate": 1e-3}, {"doc_stride": 64})
    with pytest.raises(ValueError, match="doc_stride is an option of question_answering; cola is classification"):
        finetune(TASKS["cola"], read_task(TASKS["cola"], data_dir), model, str(tmp_path / "run"), [0], values)
    assert not (tmp_path / "run").exists()


def test_the_second_text_of_a_pair_is_a_segment_also_for_a_bare_tokenizer_file(data_dir, tmp_path):
    folder = Path(checkpoint(tmp_path / "bare"))
    (folder / "tokenizer_config.json").unlink()
    run = module.TaskRun(TASKS["mnli"], read_task(TASKS["mnli"], data_dir), str(folder), tmp_path / "run", {})
    row = run.features["train"][0]
    assert row["token_type_ids"] == [0] * 5 + [1] * 3
    assert sum(row["attention_mask"]) == 8


def test_resuming_something_else_is_refused(done, model, data_dir, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(done[0], folder)
    cola, data = TASKS["cola"], read_task(TASKS["cola"], data_dir)
    for changes, message in (
        ({"values": {**QUICK, "learning_rate": 1e-3}}, "holds a run with learning_rate 0.01, not 0.001"),
        ({"seeds": [5]}, r"holds seeds \[0, 1, 2\]; give them too"),
        ({"checkpoint": checkpoint(tmp_path / "other", hidden_size=16)}, "holds a run with model "),
        ({"task": TASKS["mnli"], "data": read_task(TASKS["mnli"], data_dir)}, "with task 'cola', not 'mnli'"),
    ):
        arguments = {"task": cola, "data": data, "checkpoint": model, "seeds": [0, 1, 2], "values": QUICK, **changes}
        with pytest.raises(ValueError, match=message):
            finetune(output_dir=str(folder), resume=True, **arguments)
    assert json.loads((folder / "record.json").read_text()) == json.loads((done[0] / "record.json").read_text())
    with pytest.raises(ValueError, match="nothing to resume: .* holds no run of finetune"):
        finetune(cola, data, model, model, [0], QUICK, resume=True)
    (folder / "seed-0" / "record.json").write_text("{")
    with pytest.raises(ValueError, match=r"seed-0/record\.json: not JSON"):
        finetune(cola, data, model, str(folder), [0, 1, 2], QUICK, resume=True)


def test_a_set_leaves_out_what_is_missing_and_says_so_but_not_what_is_broken(model, data_dir, tmp_path):
    tasks = [TASKS["cola"], TASKS["rte"]]
    values = {**QUICK, "from_scratch_seeds": 0, "max_steps": 1}
    finetune_set(tasks, model, str(tmp_path / "set"), [0], values, data_dir=data_dir, skip_missing=True)
    assert "- left out: rte: no train split" in (tmp_path / "set" / "table.md").read_text()
    broken = tmp_path / "data"
    shutil.copytree(data_dir, broken)
    (broken / "RTE").mkdir()
    for name in ("train", "dev"):
        (broken / "RTE" / f"{name}.tsv").write_text("index\tsentence1\tsentence2\tlabel\n0\ta\n")
    with pytest.raises(ValueError, match=r"RTE/train\.tsv, line 2: 2 fields, expected 4"):
        finetune_set(tasks, model, str(tmp_path / "again"), [0], values, data_dir=str(broken), skip_missing=True)
    assert not (tmp_path / "again").exists()
    with pytest.raises(ValueError, match="give each once"):
        finetune_set([TASKS["cola"]] * 2, model, str(tmp_path / "again"), [0], values, data_dir=data_dir)


def test_what_leaves_nothing_behind(model, data_dir, tmp_path):
    data = read_task(TASKS["cola"], data_dir)
    for values, message in (
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size is 0; it must be at least 1"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps is 0"),
        ({"max_length": 2}, "max_length is 2; it must be at least 8"),
        ({"from_scratch_seeds": 5}, "from_scratch_seeds is 5; there are 1 seeds"),
        ({"label_smoothing_factor": 0.1, "task": "stsb"}, "label_smoothing_factor: stsb is regression"),
    ):
        task = TASKS[values.pop("task", "cola")]
        with pytest.raises(ValueError, match=message):
            finetune(task, data, model, str(tmp_path / "run"), [0], {**QUICK, **values})
        assert not (tmp_path / "run").exists()
    # What an earlier version or a crash left empty is no work to protect.
    (tmp_path / "run" / "seed-0").mkdir(parents=True)
    finetune(TASKS["cola"], data, model, str(tmp_path / "run"), [0], {**QUICK, "max_steps": 1})
    with pytest.raises(ValueError, match="metric_for_best_model is the task's"):
        read_finetuning_recipe(None, {"metric_for_best_model": "loss"})


def test_the_diagnostics_are_optional(data_dir, tmp_path, caplog):
    assert len(read_diagnostics(data_dir).splits["test"]) == 1
    assert read_diagnostics(str(tmp_path)) is None and "AX are left out" in caplog.text


def test_the_record_says_what_was_read_and_what_was_cut(model, tmp_path, caplog):
    long = "the cat sat on a mat " * 20
    for name in ("train", "dev"):
        rows = [
            f"{long} {name} {i},{'ab'[i % 2]}\n" if i < 6 else f"a dog {name} {i},{'ab'[i % 2]}\n" for i in range(8)
        ]
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "".join(rows))
    task, data = own_task(str(tmp_path / "train.csv"), str(tmp_path / "dev.csv"))
    values = {"max_length": 1024, "max_steps": 1, "from_scratch_seeds": 0, "disable_tqdm": True}
    record = finetune(task, data, model, str(tmp_path / "run"), [0], values)
    assert record["settings"]["max_length"] == 64
    assert "max_length is 1024" in caplog.text and "has 64 positions" in caplog.text
    cut = {"texts": {"count": 6, "total": 8, "consequence": "are longer than 64 tokens and lose their end"}}
    assert record["data"]["cut"] == {"train": cut, "validation": cut}
    said = "train, validation: 6 of 8 texts are longer than 64 tokens and lose their end"
    assert said in caplog.text and f"- {said}." in (tmp_path / "run" / "table.md").read_text()
    assert record["data"]["text_columns"] == ["text"] and record["data"]["inferred"]["label"] == "label"
    with pytest.raises(ValueError, match="holds a run with text_columns"):
        finetune(replace(task, text_columns=("other",)), data, model, str(tmp_path / "run"), [0], values, resume=True)


def test_a_folder_without_a_tokenizer_is_refused(model, data_dir, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(model, bare, ignore=shutil.ignore_patterns("*token*", "vocab*"))
    data = read_task(TASKS["cola"], data_dir)
    with pytest.raises(ValueError, match="it holds none of tokenizer.json"):
        finetune(TASKS["cola"], data, str(bare), str(tmp_path / "run"), [0], QUICK)
    with pytest.raises(ValueError, match="is a file; give its folder"):
        finetune(TASKS["cola"], data, f"{model}/config.json", str(tmp_path / "run"), [0], QUICK)
