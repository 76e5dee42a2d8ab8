"""Render the card of every measured run from its records: `python scripts/render_model_card.py`.

`--run NAME --blocks FOLDER` first renews that run's `card.json`, which holds what its card needs beside `run.json`:
the text it was trained on, and its release (`--release FOLDER`) or, where the weights are not kept, the architecture
that its recipe makes and the run that took its place (`--superseded-by NAME`).
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from modeling_electra_rtd import ElectraRtdForPreTraining
from modeling_electra_rtd.configuration_electra_rtd import native_config
from modeling_electra_rtd.data.blocks import describe_text, read_manifest
from modeling_electra_rtd.pretraining.recipes import ModelRecipe
from modeling_electra_rtd.pretraining.run import CURVES, RECORD, pair_config_of
from modeling_electra_rtd.sharing.card_records import read_record
from modeling_electra_rtd.sharing.model_card import release_facts, render_model_card


ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "docs" / "records"
CARDS = ROOT / "model_cards"
CARD_RECORD = "card.json"


def measured_runs() -> list[str]:
    """Names of the folders of `docs/records` that hold the record of a run."""
    return sorted(path.parent.name for path in RECORDS.glob(f"*/{RECORD}"))


def card_name(run: str) -> str:
    return f"electra-rtd-{run}"


def render(run: str) -> str:
    """The card of a run, with every record of fine-tuning that began with its weights."""
    folder = RECORDS / run
    record, facts = read_record(folder / RECORD), read_record(folder / CARD_RECORD)
    superseded_by = facts.get("superseded_by")
    weights = facts["weights_sha256"]
    tuned = [read_record(path) for path in sorted((RECORDS / "finetuning").glob("*.json"))]
    return render_model_card(
        card_name(run),
        facts,
        {**record, "data": record.get("data") or facts["data"]},
        [found for found in tuned if weights is not None and found.get("weights_sha256") == weights],
        language=["en"],
        # What is not published needs none.
        license=None if superseded_by else "apache-2.0",
        curves=f"../{(folder / CURVES).relative_to(ROOT).as_posix()}",
        superseded_by=superseded_by and card_name(superseded_by),
    )


def architecture_facts(run: dict[str, Any], manifest: dict[str, Any]) -> dict[str, Any]:
    """What `release_facts` says, of a run whose weights are gone: the configs that its recipe makes, counted.

    Args:
        run: its `run.json`.
        manifest: of the blocks that it was trained on, whose vocabulary it has.

    Raises:
        ValueError: for blocks, or a vocabulary, with which the recipe gives other counts than the record holds.
    """
    tokens = manifest["tokenizer"]
    named = {name: tokens.get(name) for name in ("pad_token_id", "cls_token_id", "sep_token_id")}
    special = {name: tokens[name] for name in ("mask_token_id", "special_token_ids")}
    config = pair_config_of(ModelRecipe(**run["recipe"]["model"]), tokens["vocab_size"], named, special)
    with torch.device("meta"):
        parameters = {name: p.numel() for name, p in ElectraRtdForPreTraining(config).named_parameters()}
    generator = sum(count for name, count in parameters.items() if name.startswith("generator."))
    counted = {"discriminator": sum(parameters.values()) - generator, "generator_not_shared": generator}
    if counted != run["parameters"]:
        raise ValueError(f"the recipe makes {counted} parameters of these blocks, the record has {run['parameters']}")
    batches = manifest["splits"]["train"]["blocks"] // run["recipe"]["training"]["per_device_train_batch_size"]
    recorded = round(run["steps"] / run["held_out"]["epoch"])
    if batches != recorded:
        raise ValueError(f"these blocks make {batches:,} batches, the record's epoch had {recorded:,}")
    return {
        "config": native_config(config.discriminator_config).to_dict()
        | {"architectures": config.to_dict()["architectures"]},
        "generator_config": native_config(config.generator_config).to_dict(),
        "weights_sha256": None,
    }


def renew(run: str, blocks: str, release: Path | None, superseded_by: str | None) -> None:
    """Write the `card.json` of a run."""
    manifest = read_manifest(blocks)
    if release is not None:
        facts = release_facts(release)
    else:
        facts = {"superseded_by": superseded_by, **architecture_facts(read_record(RECORDS / run / RECORD), manifest)}
    text = json.dumps({**facts, "data": describe_text(manifest)}, indent=2)
    (RECORDS / run / CARD_RECORD).write_text(text + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", choices=measured_runs(), help="renew what this run's card needs beside its record")
    parser.add_argument("--blocks", help="the blocks it was trained on")
    parser.add_argument("--release", type=Path, help="its exported release")
    parser.add_argument("--superseded-by", choices=measured_runs(), help="the run that took its place, without one")
    arguments = parser.parse_args(argv)
    given = (arguments.run, arguments.blocks, arguments.release or arguments.superseded_by)
    if any(given) and not all(given) or arguments.release and arguments.superseded_by:
        parser.error("--run goes with --blocks and with --release or --superseded-by, one of them")
    try:
        if arguments.run:
            renew(arguments.run, arguments.blocks, arguments.release, arguments.superseded_by)
        for run in measured_runs():
            card = CARDS / f"{card_name(run)}.md"
            card.write_text(render(run), encoding="utf-8")
            print(f"card in {card.relative_to(ROOT)}")
    except (OSError, ValueError) as error:
        print(f"render_model_card: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
