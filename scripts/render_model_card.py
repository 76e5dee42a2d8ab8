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

from modeling_electra_rtd import ElectraRtdConfig, ElectraRtdForPreTraining
from modeling_electra_rtd.common.files import CURVES, RUN_RECORD
from modeling_electra_rtd.data.blocks import describe_text, read_manifest
from modeling_electra_rtd.model.checkpoint_layout import GENERATOR_SUBFOLDER, RTD_KEY
from modeling_electra_rtd.model.configuration_electra_rtd import native_config
from modeling_electra_rtd.pretraining.building import pair_config_of
from modeling_electra_rtd.pretraining.recipes import ModelRecipe, model_config
from modeling_electra_rtd.release.card import release_facts, render_model_card
from modeling_electra_rtd.release.card_records import read_record


ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "docs" / "records"
CARDS = ROOT / "model_cards"
CARD_RECORD = "card.json"


def measured_runs() -> list[str]:
    """Names of the folders of `docs/records` that hold the record of a run."""
    return sorted(path.parent.name for path in RECORDS.glob(f"*/{RUN_RECORD}"))


def card_name(run: str) -> str:
    return f"electra-rtd-{run}"


def render(run: str) -> str:
    """The card of a run, with every record of fine-tuning that began with its weights."""
    folder = RECORDS / run
    record, facts = read_record(folder / RUN_RECORD), read_record(folder / CARD_RECORD)
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
        ValueError: for a vocabulary with which the recipe gives other counts than the record holds.
    """
    tokens = manifest["tokenizer"]
    named = {name: tokens.get(name) for name in ("pad_token_id", "cls_token_id", "sep_token_id")}
    special = {name: tokens[name] for name in ("mask_token_id", "special_token_ids")}
    config = pair_config_of(ModelRecipe(**run["recipe"]["model"]), tokens["vocab_size"], named, special)
    counted = _parameters(config)
    if counted != run["parameters"]:
        raise ValueError(f"the recipe makes {counted} parameters of these blocks, the record has {run['parameters']}")
    return {
        "config": native_config(config.discriminator_config).to_dict()
        | {"architectures": config.to_dict()["architectures"]},
        "generator_config": native_config(config.generator_config).to_dict(),
        "weights_sha256": None,
    }


def _parameters(config: ElectraRtdConfig) -> dict[str, int]:
    """Count the parameters of a pair, as a record does."""
    with torch.device("meta"):
        return ElectraRtdForPreTraining(config).parameter_counts()


def check_text(run: dict[str, Any], text: dict[str, Any]) -> None:
    """Refuse blocks that a run was not trained on, as far as its record can tell.

    Args:
        text: what `describe_text` says of them.

    Raises:
        ValueError: for another text, or another number of batches.
    """
    different = [name for name, value in (run.get("data") or {}).items() if text.get(name) != value]
    if different:
        raise ValueError(f"these blocks are not those of the record, whose text differs in {', '.join(different)}")
    training = run["recipe"]["training"]
    batches = text["blocks"] // (training["per_device_train_batch_size"] * (run.get("processes") or 1))
    accumulated = training.get("gradient_accumulation_steps", 1)
    recorded = round(run["steps"] * accumulated / run["held_out"]["epoch"])
    # The last step of an epoch may have fewer batches.
    if abs(batches - recorded) >= accumulated:
        raise ValueError(f"these blocks make {batches:,} batches, the record's epoch had {recorded:,}")


def check_release(run: dict[str, Any], facts: dict[str, Any]) -> None:
    """Refuse a release that is not a run's, as far as its record can tell.

    Args:
        facts: its `release_facts`.

    Raises:
        ValueError: for another family, or other numbers of parameters.
    """
    recipe = ModelRecipe(**run["recipe"]["model"])
    family = facts["config"]["model_type"]
    if recipe.discriminator is not None and (trained := model_config(recipe.discriminator).model_type) != family:
        raise ValueError(f"the release is a {family}, the run trained a {trained}")
    objective = facts["config"].get(RTD_KEY, recipe.objective_fields())
    objective = {name: value for name, value in objective.items() if name != GENERATOR_SUBFOLDER}
    generator = facts["generator_config"]
    counted = _parameters(
        ElectraRtdConfig(discriminator_config=facts["config"], generator_config=generator, **objective)
    )
    # Two towers are no part of a release.
    compared = counted if generator is not None else {"discriminator": counted["discriminator"]}
    for role, count in compared.items():
        if count != run["parameters"][role]:
            raise ValueError(
                f"{role}: the release has {count:,} parameters, the run trained {run['parameters'][role]:,}"
            )


def renew(run: str, blocks: str, release: Path | None, superseded_by: str | None) -> None:
    """Write the `card.json` of a run.

    Raises:
        ValueError: see `check_text`, `check_release` and `architecture_facts`.
    """
    manifest, record = read_manifest(blocks), read_record(RECORDS / run / RUN_RECORD)
    text = describe_text(manifest)
    check_text(record, text)
    if release is not None:
        facts = release_facts(release)
        check_release(record, facts)
    else:
        facts = {"superseded_by": superseded_by, **architecture_facts(record, manifest)}
    content = json.dumps({**facts, "data": text}, indent=2)
    (RECORDS / run / CARD_RECORD).write_text(content + "\n", encoding="utf-8")


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
