"""The life of a repository: made, pushed, read back, loaded by a stranger, fine-tuned from, deleted."""

import json
from pathlib import Path

import pytest
import torch
from helpers.hub_client import run_stranger
from helpers.tiny import tiny_pair, tiny_tokenizer

from modeling_electra_rtd.release.export import export


STRANGER = """
import json
import torch
from transformers import AutoModelForMaskedLM, AutoModelForPreTraining, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("lab/pair")
ids = tokenizer("the cat sat on the mat", return_tensors="pt").input_ids
models = [
    AutoModelForPreTraining.from_pretrained("lab/pair"),
    AutoModelForMaskedLM.from_pretrained("lab/pair", subfolder="generator"),
]
with torch.no_grad():
    print(json.dumps([ids.tolist(), [model.eval()(ids).logits.abs().sum().item() for model in models]]))
"""


def examples(path: Path) -> str:
    rows = [f"the {('cat', 'dog')[i % 2]} sat,{('yes', 'no')[i % 2]}" for i in range(8)]
    path.write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    return str(path)


@pytest.mark.slow
def test_a_repository_from_its_making_to_its_end(hub, client, tmp_path):
    pair = tiny_pair("electra")
    pair.save_pretrained(tmp_path / "joint")
    tokenizer = tiny_tokenizer(tmp_path / "joint")
    export(str(tmp_path / "joint"), str(tmp_path / "release"))

    done = client.run("push", str(tmp_path / "release"), "lab/pair", "--private")
    assert done.returncode == 0, done.stderr[-3000:]
    commit, there = hub.find("models", "lab/pair")

    done = client.execute(
        "from huggingface_hub import snapshot_download\n"
        f"print(snapshot_download('lab/pair', revision={commit!r}, cache_dir={str(tmp_path / 'cache')!r}))"
    )
    back = Path(done.stdout.strip())
    sent = {path.relative_to(tmp_path / "release") for path in (tmp_path / "release").rglob("*") if path.is_file()}
    assert sent and all((back / name).read_bytes() == (tmp_path / "release" / name).read_bytes() for name in sent)

    (tmp_path / "stranger").mkdir()
    done = run_stranger(hub.address, tmp_path / "stranger", STRANGER)
    assert done.returncode == 0, done.stderr[-3000:]
    ids, sums = json.loads(done.stdout)
    assert ids == [tokenizer("the cat sat on the mat")["input_ids"]]
    with torch.no_grad():
        logits = [pair.discriminate(torch.tensor(ids)), pair.generator(torch.tensor(ids)).logits]
    assert sums == pytest.approx([value.abs().sum().item() for value in logits], rel=1e-5)

    files = ["--train-file", examples(tmp_path / "train.csv"), "--validation-file", examples(tmp_path / "dev.csv")]
    options = ["--seeds", "0", "--from-scratch-seeds", "0", "--max-steps", "2", "--disable-tqdm", "true"]
    run = tmp_path / "run"
    done = client.run("finetune", *files, "--model", "lab/pair", "--output-dir", str(run), *options)
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads((run / "record.json").read_text())
    assert record["model"] == "lab/pair" and record["warm_started"].startswith("the encoder")
    # What it made of it is a repository of its own.
    done = client.run("push", str(run / "seed-0"), "lab/classifier")
    assert done.returncode == 0, done.stderr[-3000:]
    assert hub.find("models", "lab/classifier")[1].keys() >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert not [name for name in hub.find("models", "lab/classifier")[1] if "record" in name or "predictions" in name]
    assert hub.find("models", "lab/pair") == (commit, there)

    for name in ("pair", "classifier"):
        done = client.execute(f"from huggingface_hub import HfApi\nHfApi().delete_repo('lab/{name}')")
        assert done.returncode == 0, done.stderr[-3000:]
        assert hub.find("models", f"lab/{name}") == "RepoNotFound"
