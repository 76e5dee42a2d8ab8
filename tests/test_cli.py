"""The commands as a user types them: help, both spellings of flags, and bad input in one line with exit code 2."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.cli import MODEL, fails
from helpers.corpus import SMALL_RUN, write_corpus
from transformers import AutoTokenizer, ElectraConfig, ElectraForPreTraining
from transformers.utils import logging

from modeling_electra_rtd import ElectraRtdForPreTraining
from modeling_electra_rtd.cli import main as cli
from modeling_electra_rtd.cli.main import build_parser, main
from modeling_electra_rtd.data.tokenizer_training import train_tokenizer


VERBS = (
    "quickstart",
    "tokenizer",
    "prepare",
    "pretrain",
    "plan",
    "finetune",
    "evaluate",
    "export",
    "convert",
    "push",
    "inspect",
    "score",
    "demo",
)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> str:
    folder = str(tmp_path_factory.mktemp("trained") / "run")
    assert main(["pretrain", "tiny", *small_run(data, folder)]) == 0
    return folder


def small_run(data, folder: str, **more: str) -> list[str]:
    options = {
        **SMALL_RUN,
        "max_length": "32",
        "blocks": data[0],
        "output_dir": folder,
        "discriminator": MODEL,
        **more,
    }
    return [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    assert "--debug" in capsys.readouterr().out


def test_the_verbs_are_these(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in VERBS)


def test_help_answers_without_importing_torch():
    code = "import sys; import modeling_electra_rtd.cli.main as m; m.build_parser(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_flags_take_dashes_and_underscores():
    parser = build_parser()
    dashes = parser.parse_args(["tokenizer", "--corpus", "a", "--output-dir", "b", "--vocab-size", "9"])
    assert dashes.vocab_size == 9
    # main() turns underscores into dashes before parsing: an unknown corpus is reached, not an unknown flag.
    assert main(["tokenizer", "--corpus", "/nowhere", "--output_dir", "b", "--vocab_size", "9"]) == 2


def test_the_columns_and_kinds_of_own_files_are_options():
    from modeling_electra_rtd.finetuning.own_task import OWN_KINDS

    given = ["--token-column", "form", "--label-column", "toxic", "threat", "--kind", "multi_label_classification"]
    parsed = build_parser().parse_args(["finetune", "--model", "m", "--output-dir", "o", *given])
    assert (parsed.token_column, parsed.label_column, parsed.kind) == ("form", ["toxic", "threat"], OWN_KINDS[1])
    parsed = build_parser().parse_args(["finetune", "--model", "m", "--output-dir", "o", "--label-column", "-1"])
    assert parsed.label_column == ["-1"]
    for kind in OWN_KINDS:
        build_parser().parse_args(["finetune", "--model", "m", "--output-dir", "o", "--kind", kind])


def test_the_beginning_of_a_flag_is_not_the_flag(capsys):
    with pytest.raises(SystemExit):
        main(["inspect", "nowhere", "--text", "a text"])
    assert "unrecognized arguments: --text" in capsys.readouterr().err
    assert "did you mean 'output_dir'" in fails(capsys, "pretrain", "tiny", "--output", "b")


def test_from_text_to_release(data, trained, tmp_path, capsys, caplog):
    metrics = tmp_path / "metrics.json"
    assert main(["evaluate", trained, "--data", data[0], "--json", str(metrics)]) == 0
    assert 0 <= json.loads(metrics.read_text())["discriminator_auc"] <= 1
    release = str(tmp_path / "release")
    assert main(["export", trained, "--output-dir", release]) == 0
    logging.enable_propagation()
    assert "without discriminator_predictions" in fails(capsys, "inspect", f"{release}/generator", "a text")
    logging.disable_propagation()
    assert "MISSING" not in caplog.text
    page = tmp_path / "page.html"
    capsys.readouterr()
    assert main(["inspect", trained, "The river follows the <city>.", "--html", str(page)]) == 0
    assert "P_d" in capsys.readouterr().out
    assert "already exists" in fails(capsys, "inspect", trained, "The river", "--html", str(page))
    into = ("--file", str(page), "--output", str(tmp_path / "tokens.jsonl"))
    assert "--html shows" in fails(capsys, "inspect", trained, *into, "--html", str(tmp_path / "other.html"))
    assert main(["inspect", release, "The river follows the city."]) == 0
    assert "<city>" not in page.read_text()


def test_bad_corpora_are_named_and_leave_nothing(data, tmp_path, capsys):
    out = tmp_path / "out"
    prepare = ["prepare", "--tokenizer", data[1], "--output-dir", str(out), "--num-proc", "1", "--corpus"]
    assert "nowhere" in fails(capsys, *prepare, str(tmp_path / "nowhere"))
    empty = tmp_path / "empty.txt"
    empty.write_text("\n \n")
    fails(capsys, *prepare, str(empty))
    binary = tmp_path / "picture.txt"
    binary.write_bytes(b"\x89PNG\x00\x01" * 50)
    assert "picture.txt" in fails(capsys, *prepare, str(binary))
    latin = tmp_path / "latin.txt"
    latin.write_bytes("caf\xe9 ".encode("latin-1") * 50)
    assert "latin.txt" in fails(capsys, *prepare, str(latin))
    assert not out.exists()
    corpus = write_corpus(tmp_path / "corpus")
    assert main([*prepare, corpus, str(latin), str(binary), "--skip-invalid-files"]) == 0
    assert "latin.txt" in (out / "manifest.json").read_text()
    assert "already exists" in fails(capsys, *prepare, corpus)


def test_a_tokenizer_without_a_mask_token_is_refused(data, tmp_path, capsys):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(WordLevel({"<unk>": 0, "the": 1}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>").save_pretrained(tmp_path / "plain")
    corpus = write_corpus(tmp_path / "corpus")
    said = fails(
        capsys,
        "prepare",
        "--corpus",
        corpus,
        "--tokenizer",
        str(tmp_path / "plain"),
        "--output-dir",
        str(tmp_path / "o"),
    )
    assert "mask_token" in said


def test_bad_runs_are_refused_in_one_line(data, tmp_path, capsys):
    folder = str(tmp_path / "run")
    assert "did you mean 'tiny'" in fails(capsys, "pretrain", "tinny")
    assert "did you mean 'learning_rate'" in fails(capsys, "pretrain", "tiny", "--learning-rat", "1")
    wrong_type = fails(capsys, "pretrain", "tiny", *small_run(data, folder, learning_rate="fast"))
    assert "learning_rate is 'fast'" in wrong_type
    heads = MODEL.replace('"num_attention_heads": 2', '"num_attention_heads": 5')
    impossible = fails(capsys, "pretrain", "tiny", *small_run(data, folder, discriminator=heads))
    assert "num_attention_heads 5 does not divide hidden_size 32" in impossible
    assert "nothing to resume" in fails(capsys, "pretrain", "tiny", "--resume", *small_run(data, folder))
    other = str(tmp_path / "other")
    train_tokenizer([write_corpus(tmp_path / "text", seed=5)], other, vocab_size=90, progress=False)
    fails(capsys, "pretrain", "tiny", *small_run(data, folder, tokenizer=other))
    assert "stands alone" in fails(capsys, "pretrain", "tiny", "extra")
    assert not (tmp_path / "run").exists()


def test_bad_models_are_refused_in_one_line(data, trained, tmp_path, capsys):
    assert "already holds a run" in fails(capsys, "pretrain", "tiny", *small_run(data, trained))
    release = str(tmp_path / "release")
    assert "has no config.json" in fails(capsys, "export", data[1], "--output-dir", release)
    fails(capsys, "export", str(tmp_path / "nowhere"), "--output-dir", release)
    assert not (tmp_path / "release").exists()
    fails(capsys, "evaluate", trained, "--data", str(tmp_path / "nowhere"))
    fails(capsys, "inspect", str(tmp_path / "nowhere"), "a text")
    assert "has no tokens" in fails(capsys, "inspect", trained, " ")


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        main(["tokenizer", "--debug", "--corpus", str(tmp_path / "no"), "--output-dir", str(tmp_path / "out")])


def labelled(folder: Path) -> list[str]:
    for name in ("train", "dev"):
        (folder / f"{name}.csv").write_text("text,topic\n" + "The river rises.,water\nThe city grows.,land\n" * 4)
    files = ["--train-file", str(folder / "train.csv"), "--validation-file", str(folder / "dev.csv")]
    return [*files, "--label-column", "topic"]


def test_fine_tuning_on_own_files(trained, tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("training:\n  num_train_epochs: 1\n  from_scratch_seeds: 0\n  learning_rate: 5e-4\n")
    folder = tmp_path / "run"
    # The recipe stands behind an option that takes any number of values.
    command = ["finetune", "--model", trained, "--output-dir", str(folder), *labelled(tmp_path)]
    assert main([*command, "--seeds", "0", "1", str(recipe), "--weight-decay", "0"]) == 0
    assert "classification with 2 labels (land, water)" in capsys.readouterr().out
    record = json.loads((folder / "record.json").read_text())
    assert [run["seed"] for run in record["fine_tuned"]["runs"]] == [0, 1]
    settings = record["settings"]
    assert (settings["learning_rate"], settings["weight_decay"], settings["num_train_epochs"]) == (5e-4, 0.0, 1.0)
    assert "already holds something" in fails(capsys, *command)


def test_bad_fine_tuning_is_refused_in_one_line(trained, tmp_path, capsys):
    folder = tmp_path / "run"
    command = ["finetune", "--model", trained, "--output-dir", str(folder)]
    own = labelled(tmp_path)
    assert "give --task, or --train-file" in fails(capsys, *command)
    assert "did you mean 'mrpc'" in fails(capsys, *command, "--task", "mrcp")
    assert "no train split" in fails(capsys, *command, "--task", "mrpc", "--data-dir", str(tmp_path))
    assert "no validation split" in fails(capsys, *command, *own[:2])
    assert "did you mean 'learning_rate'" in fails(capsys, *command, *own, "--learning-rat", "1")
    assert "did you mean 'topic'" in fails(capsys, *command, *own[:-1], "topi")
    assert "--kind goes with --train-file" in fails(capsys, *command, "--task", "mrpc", "--kind", "regression")
    assert "--data-dir goes with --task" in fails(capsys, *command, *own, "--data-dir", str(tmp_path))
    assert "predicted by a model for mnli" in fails(capsys, *command, "--task", "ax", "--data-dir", str(tmp_path))
    nowhere = ["finetune", "--model", str(tmp_path / "nowhere"), "--output-dir", str(folder), *own]
    assert "nowhere" in fails(capsys, *nowhere)
    generator = ["finetune", "--model", str(tmp_path / "generator"), "--output-dir", str(folder), *own]
    ElectraRtdForPreTraining.from_pretrained(trained).generator.save_pretrained(tmp_path / "generator")
    AutoTokenizer.from_pretrained(trained).save_pretrained(tmp_path / "generator")
    ElectraForPreTraining(ElectraConfig(vocab_size=200)).save_pretrained(tmp_path)
    assert "is a generator" in fails(capsys, *generator)
    assert not folder.exists()


@pytest.mark.parametrize("length", [1, 100_000])
def test_a_reader_that_leaves_is_no_error(length, monkeypatch, capsys):
    """As `head` does, whether or not the text fits into a buffer; the exit code is that of a broken pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setattr(cli, "_quickstart", lambda arguments: print("a" * length))
    with open(writing, "w", encoding="utf-8") as left:
        monkeypatch.setattr(sys, "stdout", left)
        assert main(["quickstart"]) == 141
    assert capsys.readouterr().err == ""


def test_a_connection_that_breaks_is_an_error(monkeypatch, capsys):
    def upload(arguments):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(cli, "_quickstart", upload)
    assert "Broken pipe" in fails(capsys, "quickstart")


@pytest.mark.parametrize(
    "configuration", ["none", *(pytest.param(name, marks=pytest.mark.slow) for name in ("single_gpu", "multi_gpu"))]
)
def test_launchers_start_the_package_as_a_module(configuration, data, tmp_path):
    # From another folder than the checkout's, as with an installed package.
    root = Path(__file__).parents[1]
    launcher = ["accelerate.commands.accelerate_cli", "launch", "--num_processes", "1"]
    if configuration == "none":
        launcher += ["--cpu"]
    else:
        launcher += ["--config_file", str(root / "configuration" / "accelerate" / f"{configuration}.yaml")]
    run = ["pretrain", "tiny", "--blocks", data[0], "--output-dir", "run", "--discriminator", MODEL, "--use-cpu"]
    for name, value in {**SMALL_RUN, "max_length": "32", "eval_strategy": "no"}.items():
        run += [f"--{name}", value]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "-m", "modeling_electra_rtd.cli", *run],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "run" / "run.json").is_file()
