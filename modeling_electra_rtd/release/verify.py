"""A folder as a stranger loads it: `transformers` alone, in a process that has never heard of this package."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig


# Run in a process of its own: what loads there owes nothing to what this process has imported or patched.
_STOCK_LOADING = """
import json, os, sys
import torch
from transformers import (
    AutoModel, AutoModelForMaskedLM, AutoModelForPreTraining, AutoModelForSeq2SeqLM, AutoTokenizer
)
folder, ids, names = sys.argv[1], torch.tensor(json.loads(sys.argv[2])), sys.argv[3].split(",")
has_tokenizer = bool(sys.argv[4])
auto = {
    "root": AutoModel, "generator": AutoModelForMaskedLM, "discriminator": AutoModelForPreTraining,
    "encoder and decoder": AutoModelForSeq2SeqLM, "masked LM": AutoModelForMaskedLM,
}
report = {}
for name in names:
    where = {"subfolder": "generator"} if name == "generator" else {}
    with open(os.path.join(folder, where.get("subfolder", ""), "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    # A family that stock transformers does not know: its code is part of what is loaded.
    where["trust_remote_code"] = "AutoConfig" in config.get("auto_map", {})
    model, info = auto[name].from_pretrained(folder, output_loading_info=True, **where)
    with torch.no_grad():
        output = model.eval()(ids, **({"decoder_input_ids": ids} if name == "encoder and decoder" else {}))
    value = output.last_hidden_state if name == "root" else output.logits
    missing = set(info["missing_keys"])
    if name == "root" and (config.get("architectures") or [""])[0].endswith("ForMaskedLM"):
        # AutoModel adds a pooler that the class the checkpoint is of goes without.
        with torch.device("meta"):
            own = AutoModelForMaskedLM.from_config(model.config, trust_remote_code=where["trust_remote_code"])
        missing &= set(own.base_model.state_dict())
    report[name] = {"missing": sorted(missing), "sum": value.double().abs().sum().item()}
    if has_tokenizer:
        AutoTokenizer.from_pretrained(folder, **where)
assert "modeling_electra_rtd" not in sys.modules
print(json.dumps(report))
"""


def probe_ids(*configs: PreTrainedConfig) -> list[list[int]]:
    """One row of 16 token ids that every vocabulary has; none is padding, which some encoders know by its id."""
    padding = {config.pad_token_id for config in configs}
    ids = [token_id for token_id in range(min(config.vocab_size for config in configs)) if token_id not in padding]
    step = 7 if len(ids) % 7 else 1
    return [[ids[(step * position) % len(ids)] for position in range(16)]]


def stock_outputs(folder: str | Path, predicts: bool = False) -> dict[str, Any]:
    """What stock classes make of a probe; a family that they do not know is loaded with the code in the folder. A
    tokenizer, where there is one, must load next to each network.

    Args:
        predicts: whether the root has a masked-LM head, where its class does not say so.

    Returns:
        For `root`, where it lies in the folder for `generator`, for an `ElectraForPreTraining` for `discriminator`,
        and for a root with its head for `masked LM`: the missing keys (not those that the class named in the config
        goes without) and the sum of absolute outputs; instead of `root` for `encoder and decoder` where the model is
        both.

    Raises:
        ValueError: in one line, if the folder does not load; caused by an error with all that the process said.
    """
    config = AutoConfig.from_pretrained(folder)
    parts = [config.encoder, config.decoder] if config.is_encoder_decoder else [config]
    names = ["root" if len(parts) == 1 else "encoder and decoder"]
    if (Path(folder) / "generator" / "config.json").is_file():
        names.append("generator")
    if config.architectures == ["ElectraForPreTraining"]:
        names.append("discriminator")
    if predicts or (config.architectures or [""])[0].endswith("ForMaskedLM"):
        names.append("masked LM")
    probe = json.dumps(probe_ids(*parts))
    has_tokenizer = "yes" if (Path(folder) / "tokenizer_config.json").is_file() else ""
    done = subprocess.run(
        [sys.executable, "-c", _STOCK_LOADING, str(folder), probe, ",".join(names), has_tokenizer],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"},
    )
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        raise ValueError(f"{folder} does not load with stock transformers ({reason})") from RuntimeError(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])
