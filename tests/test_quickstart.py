"""The quickstart from end to end on few steps and little text, and what its verdict says."""

import math

import pytest

from modeling_electra_rtd import quickstart as module
from modeling_electra_rtd.cli.main import main
from modeling_electra_rtd.data.blocks import prepare_blocks
from modeling_electra_rtd.data.tokenizer_training import train_tokenizer
from modeling_electra_rtd.model.checkpoint_layout import holds_pair
from modeling_electra_rtd.quickstart import FEWEST_TOKENS, quickstart, quickstart_documents, unigram_loss, verdict


@pytest.fixture
def little_text(monkeypatch):
    documents = quickstart_documents()[::16]
    monkeypatch.setattr(module, "quickstart_documents", lambda: documents)
    monkeypatch.setattr(module, "VOCAB_SIZE", 1000)


def test_the_whole_way(tmp_path, little_text, capsys):
    folder = tmp_path / "quickstart"
    record = quickstart(str(folder), max_steps=3)
    assert record["steps"] == 3 and record["time_budget_seconds"] is None
    shown = capsys.readouterr().out
    assert "held-out AUC on replaced tokens" in shown and "P_d" in shown
    assert f" {folder / 'model' / 'curves.png'}\n" in shown
    assert "root: 0 missing" in shown and "generator: 0 missing" in shown
    # Three steps teach nothing, and a run says so.
    assert "not learned  hidden words" in shown and "too short for the model to learn" in shown
    for name in (
        "release/model.safetensors",
        "release/generator/model.safetensors",
        "model/curves.png",
        "inspect.html",
    ):
        assert (folder / name).stat().st_size > 0
    assert holds_pair(folder / "release")


def test_the_command_ends_by_the_clock(tmp_path, little_text, capsys, monkeypatch):
    asked = []

    def trained(recipe, time_budget):
        asked.append((recipe.training.max_steps, time_budget.seconds))
        raise ValueError("stopped here")

    monkeypatch.setattr(module, "pretrain", trained)
    assert main(["quickstart", "--output-dir", str(tmp_path / "one"), "--seconds", "7.5"]) == 2
    assert asked == [(module.TimeBudget.MOST_STEPS, 7.5)]
    assert main(["quickstart", "--output-dir", str(tmp_path / "two"), "--seconds", "0"]) == 2
    assert "seconds is 0.0; it must be above 0" in capsys.readouterr().err
    # A time that is none is found before anything is written.
    assert not (tmp_path / "two").exists()


def test_a_taken_folder_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="already holds something"):
        quickstart(str(tmp_path))


def finished(loss: float, auc: float, tokens: int, seconds: float = 250.0) -> dict:
    held_out = {"eval_generator_loss": loss, "eval_discriminator_auc": auc}
    return {"held_out": held_out, "tokens_seen": tokens, "training_seconds": seconds}


def test_a_verdict_compares_with_chance_and_random_weights():
    lines = verdict(finished(4.2, 0.72, 3_000_000), 6.3, 9.0, pre_trained=0.64, from_scratch=0.48)
    words, replaced, order = lines
    assert all(line.startswith("[green]learned[/]") for line in lines)
    assert "4.20 nats; guessing by frequency costs 6.30, random weights 9.01"[:40] in words
    assert "AUC 0.720" in replaced and "0.640 right after fine-tuning; 0.480 from random weights" in order


def test_a_verdict_says_what_was_not_learned_and_how_long_it_would_take():
    # 50 steps, as on a processor that was told to multiply in bf16 and cannot.
    lines = verdict(finished(6.0, 0.554, 204_800), 6.3, 9.0, pre_trained=0.492, from_scratch=0.478)
    assert all(line.startswith("[red]not learned[/]") for line in lines[:3])
    seconds = math.ceil(1.2 * FEWEST_TOKENS / (204_800 / 250) / 10) * 10
    assert f"204,800 tokens, 819 a second, and it needs at least {FEWEST_TOKENS:,}" in lines[3]
    assert f"--seconds {seconds}" in lines[3]


def test_guessing_by_frequency_by_hand(tmp_path):
    # One word half of the time, two others a quarter each: 1.5 bits a word, but for one more of each token.
    text = "red red blue green " * 8
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n\n".join(text + f"{'red ' * n}" for n in range(400)))
    train_tokenizer([str(corpus)], str(tmp_path / "tokenizer"), vocab_size=40, progress=False)
    prepare_blocks([str(corpus)], str(tmp_path / "tokenizer"), str(tmp_path / "blocks"), progress=False)
    found = unigram_loss(tmp_path / "blocks")
    assert 0.2 < found < 1.5 * math.log(2)
