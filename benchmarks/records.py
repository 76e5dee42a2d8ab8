"""The record of a benchmark."""

import argparse
import json
from pathlib import Path
from typing import Any

from modeling_electra_rtd.common.machine import environment


def write_record(arguments: argparse.Namespace, **results: Any) -> None:
    """Write settings, results and the machine to the file that `arguments.json` names, if it names one.

    Files and folders go by their names: where they lie on this machine is nobody's business.
    """
    if not arguments.json:
        return
    setting = {name: _without_folders(value) for name, value in vars(arguments).items() if name != "json"}
    path = Path(arguments.json)
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"setting": setting, **results, **environment()}
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"\nrecord in {path}")


def _without_folders(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_folders(entry) for entry in value]
    return Path(value).name if isinstance(value, str) and Path(value).exists() else value
