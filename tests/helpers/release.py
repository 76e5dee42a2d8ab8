"""A release of a tiny pair, and what a process without this package does with it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.tiny import randomize, tiny_pair, tiny_text, tiny_tokenizer, uniforms_for
from modeling_electra_rtd import ElectraRtdForPreTraining, ReplacedTokenDetectionPipeline
from modeling_electra_rtd.release.export import export


TEXT = "the cat sat on a mat and the dogs sat on the cats ."


def quick_export(*arguments: str, **options: Any) -> None:
    """A release that no process of its own has loaded yet; that is what tests/test_export.py is for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("modeling_electra_rtd.release.export.verify_release", lambda *_: {})
        export(*arguments, **options)


def released(root: Path, family: str) -> ElectraRtdForPreTraining:
    """Write `family-joint` and its release `family` into a folder; ELECTRA's share embeddings, ModernBERT's do not."""
    pair = tiny_pair(family, embedding_sharing={"electra": "tied", "modernbert": "none"}[family], mask_probability=0.3)
    randomize(pair.generator, seed=1)
    pair.save_pretrained(root / f"{family}-joint")
    tiny_tokenizer(root / f"{family}-joint")
    quick_export(str(root / f"{family}-joint"), str(root / family))
    return pair


# The first lines of a process in which the package does not exist: a finder refuses it, whatever else would find it.
REFUSE = """
import importlib, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "modeling_electra_rtd":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
try:
    importlib.import_module("modeling_electra_rtd")
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("the package can be imported")
"""

# Arguments: a folder for what it makes, {family: source of a release}, and further arguments of from_pretrained.
FLAG_PROCESS = """
import json
import torch, transformers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForPreTraining, AutoTokenizer, pipeline
folder, sources, hub = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
report, outputs = {}, {}

def batch_of(pair=None):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 150, (3, 24), generator=generator)
    for row, size in enumerate((24, 19, 14)):
        ids[row, 0], ids[row, size - 1], ids[row, size:] = 2, 3, 0
    batch = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    if pair is not None:
        module = sys.modules[type(pair).__module__]
        count = module.number_of_uniforms(24, 0.3)
        batch["corruption_uniforms"] = torch.rand(3, count, generator=torch.Generator().manual_seed(0))
    return batch

def weights(pair):
    return {name: weight.clone() for name, weight in pair.named_parameters()}

for family, source in sources.items():
    stock, missing = {}, []
    names = ["AutoModel", "AutoModelForSequenceClassification"]
    names += ["AutoModelForPreTraining"] if family == "electra" else []
    AutoConfig.from_pretrained(source, **hub)
    AutoTokenizer.from_pretrained(source, **hub)
    for name in names:
        model, info = getattr(transformers, name).from_pretrained(source, output_loading_info=True, **hub)
        stock[name] = type(model).__name__
        if name != "AutoModelForSequenceClassification":
            missing += info["missing_keys"]
        with torch.no_grad():
            outputs[f"{family} {name}"] = model(**batch_of())[0].contiguous()
    ran = [name for name in sys.modules if name.startswith("transformers_modules") and family in name]

    pair, info = AutoModelForPreTraining.from_pretrained(
        source, trust_remote_code=True, output_loading_info=True, **hub
    )
    with torch.no_grad():
        outputs[f"{family} loss"] = pair(**batch_of(pair)).loss
    before = weights(pair)
    pair.train()
    optimizer = torch.optim.SGD(pair.parameters(), lr=0.1)
    torch.manual_seed(0)
    pair(**batch_of()).loss.backward()
    optimizer.step()
    moved = {"generator": False, "discriminator": False}
    for name, weight in weights(pair).items():
        role = "generator" if name.startswith("generator.") else "discriminator"
        moved[role] |= not torch.equal(weight, before[name])
    pair.eval().save_pretrained(f"{folder}/{family}-trained")
    with torch.no_grad():
        outputs[f"{family} trained"] = pair(**batch_of(pair)).loss
    again = AutoModelForPreTraining.from_pretrained(f"{folder}/{family}-trained", trust_remote_code=True)
    equal = all(torch.equal(weight, pair.state_dict()[name]) for name, weight in again.state_dict().items())

    task = "replaced-token-detection"
    place = {key: value for key, value in hub.items() if key == "revision"}
    detect = pipeline(task, model=source, trust_remote_code=True, device="cpu", **place)
    generator = AutoModelForMaskedLM.from_pretrained(source, **{**hub, "subfolder": "generator"})
    fill = pipeline("fill-mask", model=generator, tokenizer=detect.tokenizer, device="cpu")
    report[family] = {
        "stock": stock, "missing": missing, "code was run": ran, "class": type(pair).__name__,
        "report": {key: sorted(info[key]) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")},
        "is tied": pair.generator.encoder.embeddings is pair.encoder.embeddings,
        "moved": moved, "reloaded": {"class": type(again).__name__, "equal": equal},
        "detected": detect("the cat sat on a mat and the dogs sat on the cats ."),
        "filled": fill("the [MASK] sat")[0],
    }
assert "modeling_electra_rtd" not in sys.modules
save_file(outputs, f"{folder}/outputs.safetensors")
print(json.dumps(report))
"""


def stepped(model: ElectraRtdForPreTraining):
    """What a pair says of the tiny text under the corruption of FLAG_PROCESS."""
    ids = tiny_text()["input_ids"]
    with torch.no_grad():
        return model(**tiny_text(), corruption_uniforms=uniforms_for(ids, 0.3))


def check_what_a_stranger_saw(report: dict, outputs: dict, family: str, pair: ElectraRtdForPreTraining) -> None:
    """Compare what FLAG_PROCESS printed and saved with the pair that the release was made from."""
    batch = tiny_text()
    stock = {"AutoModel": {"electra": "ElectraModel", "modernbert": "ModernBertModel"}[family]}
    stock["AutoModelForSequenceClassification"] = stock["AutoModel"].replace("Model", "ForSequenceClassification")
    if family == "electra":
        stock["AutoModelForPreTraining"] = "ElectraForPreTraining"
    assert report["stock"] == stock and not report["code was run"] and not report["missing"]
    with torch.no_grad():
        expected = pair.encoder(**batch).last_hidden_state
        torch.testing.assert_close(outputs[f"{family} AutoModel"], expected, atol=1e-6, rtol=1e-6)
        if family == "electra":
            expected = pair.discriminate(**batch)
            torch.testing.assert_close(outputs["electra AutoModelForPreTraining"], expected, atol=1e-6, rtol=1e-6)
    name = {"electra": "ElectraRtdForPreTraining", "modernbert": "ModernBertRtdForPreTraining"}[family]
    assert report["class"] == name
    assert report["report"] == {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": []}
    assert report["is tied"] == (pair.config.embedding_sharing == "tied")
    torch.testing.assert_close(outputs[f"{family} loss"], stepped(pair).loss, atol=1e-6, rtol=1e-6)
    assert report["moved"] == {"generator": True, "discriminator": True}
    assert report["reloaded"] == {"class": name, "equal": True}
    expected = ReplacedTokenDetectionPipeline(model=pair, tokenizer=tiny_tokenizer(), device="cpu")(TEXT)
    assert [token["token"] for token in report["detected"]] == [token["token"] for token in expected]
    for found, token in zip(report["detected"], expected, strict=True):
        assert found["probability"] == pytest.approx(token["probability"], abs=1e-6)
    tokens = tiny_tokenizer()("the [MASK] sat", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        best = pair.generator(tokens).logits[0, 2].softmax(-1).max()
    assert report["filled"]["score"] == pytest.approx(best.item(), abs=1e-6)
