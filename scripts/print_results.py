"""Print the table of some fine-tuning records: `python scripts/print_results.py runs/*/record.json`."""

import argparse
import sys
from pathlib import Path

from modeling_electra_rtd.finetuning.report import markdown_table
from modeling_electra_rtd.finetuning.task_run import read_json


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("records", nargs="+", type=Path, help="record.json of runs of electra-rtd finetune")
    try:
        print(markdown_table([read_json(path) for path in parser.parse_args(argv).records]), end="")
    except (OSError, ValueError, KeyError) as error:
        print(f"print_results: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
