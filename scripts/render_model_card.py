"""Render the card of a measured run from its records: `python scripts/render_model_card.py`.

`--release FOLDER --blocks FOLDER` first renews `release.json`, which holds what the card needs of weights and text
that are not kept here.
"""

import argparse
import json
import sys
from pathlib import Path

from modeling_electra_rtd.data.blocks import describe_text, read_manifest
from modeling_electra_rtd.pretraining.run import CURVES, RECORD
from modeling_electra_rtd.sharing.model_card import release_facts, render_model_card


ROOT = Path(__file__).parents[1]
RUN = ROOT / "docs" / "records" / "tiny"
CARD = ROOT / "model_cards" / "electra-rtd-tiny.md"
RELEASE_RECORD = "release.json"


def render() -> str:
    """The card of the tiny run, with every fine-tuning record that began with its weights."""
    release = json.loads((RUN / RELEASE_RECORD).read_text(encoding="utf-8"))
    run = json.loads((RUN / RECORD).read_text(encoding="utf-8"))
    paths = sorted((RUN.parent / "finetuning").glob("*.json"))
    records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return render_model_card(
        CARD.stem,
        release,
        {**run, "data": run.get("data") or release["data"]},
        [record for record in records if record.get("weights_sha256") == release["weights_sha256"]],
        language=["en"],
        license="apache-2.0",
        curves=f"../{(RUN / CURVES).relative_to(ROOT).as_posix()}",
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--release", type=Path, help="the exported release of the run")
    parser.add_argument("--blocks", help="the blocks it was trained on")
    arguments = parser.parse_args(argv)
    try:
        if arguments.release and arguments.blocks:
            text = describe_text(read_manifest(arguments.blocks))
            facts = json.dumps({**release_facts(arguments.release), "data": text}, indent=2)
            (RUN / RELEASE_RECORD).write_text(facts + "\n", encoding="utf-8")
        CARD.write_text(render(), encoding="utf-8")
    except (OSError, ValueError) as error:
        print(f"render_model_card: error: {error}", file=sys.stderr)
        return 2
    print(f"card in {CARD.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
