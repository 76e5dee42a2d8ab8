"""The committed cards: each is what the script renders from its records, and no other run's facts renew one."""

import importlib
import json
import re
from pathlib import Path

import pytest
from helpers.cards import RECORDS, ROOT, cells
from huggingface_hub import ModelCard


RUNS = sorted(path.parent.name for path in RECORDS.glob("*/run.json"))


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def cards(monkeypatch):
    """The script that renders the cards of this repository."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("render_model_card")


@pytest.mark.parametrize("run", RUNS)
def test_the_committed_card_is_what_its_records_render_to(run, cards):
    rendered = cards.render(run)
    assert rendered == (ROOT / "model_cards" / f"electra-rtd-{run}.md").read_text(encoding="utf-8")
    card, record = ModelCard(rendered), read(RECORDS / run / "run.json")
    assert cells(card, "optimizer steps") == [f"{record['steps']:,}"]
    assert cells(card, "training time") == [f"{record['training_seconds'] / 3600:.2f} hours"]
    assert cells(card, "AUC on replaced tokens") == [f"{record['held_out']['eval_discriminator_auc']:.4f}"]
    facts = read(RECORDS / run / "card.json")
    networks = (facts["config"], facts["generator_config"])
    assert cells(card, "layers") == [str(network["num_hidden_layers"]) for network in networks]
    assert cells(card, "vocabulary") == ["30,528"] * 2
    has_heads = "num_attention_heads" in facts["config"]
    assert ("| attention heads |" in card.text) == has_heads
    assert f"head: {record['parameters']['discriminator']:,};" in card.text
    # What the card shows lies where it says.
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", card.text)
    assert f"../docs/records/{run}/curves.png" in links
    assert not [link for link in links if not (ROOT / "model_cards" / link).is_file()]


def test_every_measured_run_has_a_card_and_nothing_else_has():
    assert {path.stem for path in (ROOT / "model_cards").glob("*.md")} == {f"electra-rtd-{run}" for run in RUNS}
    assert len(RUNS) > 2


@pytest.mark.parametrize("run", [run for run in RUNS if read(RECORDS / run / "card.json").get("superseded_by")])
def test_a_card_without_weights_says_so_and_loads_nothing(run, cards):
    card = ModelCard(cards.render(run))
    above = card.text.partition("\n## ")[0]
    assert (
        "**Superseded by [electra-rtd-tiny](electra-rtd-tiny.md). The weights of this run are not published" in above
    )
    assert "```python" not in card.text and "from_pretrained" not in card.text and "load without" not in card.text
    assert "No record of fine-tuning names these weights." in card.text
    assert card.data.eval_results is None and card.data.license is None
    assert "upersede" not in cards.render("tiny")


@pytest.mark.parametrize("run", RUNS)
def test_an_architecture_is_that_of_the_recipe_or_refused(run, cards):
    record, facts = read(RECORDS / run / "run.json"), read(RECORDS / run / "card.json")
    tokenizer = {
        "vocab_size": 30522,
        "pad_token_id": 0,
        "cls_token_id": 101,
        "sep_token_id": 102,
        "mask_token_id": 103,
    }
    tokenizer["special_token_ids"] = [0, 101, 102, 103]
    manifest = {"tokenizer": tokenizer}
    made = cards.architecture_facts(record, manifest)
    # Of the run whose release was kept, this is what the release itself says.
    sizes = ("architectures", "num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
    for network in ("config", "generator_config"):
        for key in (*sizes, "max_position_embeddings", "vocab_size", "hidden_activation", "pad_token_id"):
            if (network, key) != ("generator_config", "architectures") and key in facts[network]:
                assert made[network][key] == facts[network][key], (network, key)
    with pytest.raises(ValueError, match="the recipe makes .* the record has"):
        cards.architecture_facts(record, manifest | {"tokenizer": tokenizer | {"vocab_size": 30529}})


@pytest.mark.parametrize("run", RUNS)
def test_a_card_is_renewed_from_the_blocks_and_the_release_of_the_run_alone(run, cards):
    record, facts = read(RECORDS / run / "run.json"), read(RECORDS / run / "card.json")
    cards.check_text(record, facts["data"])
    cards.check_release(record, facts)
    # Two micro-batches a step, and two processes, make as many batches of half the rows.
    rows = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}
    recipe = record["recipe"] | {"training": record["recipe"]["training"] | rows}
    cards.check_text({**record, "recipe": recipe, "processes": 2}, facts["data"])
    with pytest.raises(ValueError, match="^these blocks make 6,250 batches, the record's epoch had 9,160$"):
        cards.check_text({**record, "data": None}, facts["data"] | {"blocks": 200000})
    with pytest.raises(ValueError, match="^these blocks are not those of the record, whose text differs in bytes$"):
        cards.check_text({**record, "data": facts["data"]}, facts["data"] | {"bytes": 1})
    family = facts["config"]["model_type"]
    with pytest.raises(ValueError, match=f"^the release is a bert, the run trained a {family}$"):
        cards.check_release(record, facts | {"config": facts["config"] | {"model_type": "bert"}})
    counts = record["parameters"]
    for role, count in counts.items():
        changed = {**record, "parameters": counts | {role: count + 1}}
        message = f"^{role}: the release has {count:,} parameters, the run trained {count + 1:,}$"
        with pytest.raises(ValueError, match=message):
            cards.check_release(changed, facts)


def test_a_release_of_another_run_leaves_the_card_as_it_is(cards, monkeypatch, capsys):
    record = RECORDS / "tiny" / "card.json"
    before = record.read_bytes()
    monkeypatch.setattr(cards, "read_manifest", lambda blocks: None)
    monkeypatch.setattr(cards, "describe_text", lambda manifest: read(record)["data"])
    monkeypatch.setattr(cards, "release_facts", lambda release: read(RECORDS / "tiny_gru" / "card.json"))
    assert cards.main(["--run", "tiny", "--blocks", "blocks", "--release", "release"]) == 2
    error = "render_model_card: error: the release is a gru_encoder, the run trained a modernbert\n"
    assert capsys.readouterr().err == error and record.read_bytes() == before
