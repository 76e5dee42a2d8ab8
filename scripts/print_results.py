"""Print the table of some fine-tuning records: `python scripts/print_results.py runs/*/record.json`."""

import argparse
import sys
from pathlib import Path
from typing import Any

from modeling_electra_rtd.common.asked import read_json
from modeling_electra_rtd.finetuning.report import markdown_table


def read_record(path: Path) -> dict[str, Any]:
    """
    Raises:
        ValueError: for a file that is not a record of `electra-rtd finetune`, naming it.
    """
    record = read_json(path)
    try:
        markdown_table([record])
    except (AttributeError, KeyError, TypeError):
        raise ValueError(f"{path}: not a record of electra-rtd finetune") from None
    return record


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("records", nargs="+", type=Path, help="record.json of runs of electra-rtd finetune")
    try:
        print(markdown_table([read_record(path) for path in parser.parse_args(argv).records]), end="")
    except (OSError, ValueError) as error:
        print(f"print_results: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
