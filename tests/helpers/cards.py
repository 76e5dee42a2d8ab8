"""Committed records, and cards read back."""

from pathlib import Path

from huggingface_hub import ModelCard


ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "docs" / "records"


def cells(card: ModelCard, name: str) -> list[str]:
    """The cells beside a row's name, without the row's borders."""
    (row,) = [line for line in card.text.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in row.strip("|").split("|")[1:]]
