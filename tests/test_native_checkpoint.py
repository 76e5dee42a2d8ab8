"""One folder for two worlds: stock transformers in a process that cannot import this package, and the pair itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.release import REFUSE
from helpers.tiny import FAMILIES, tiny_pair, tiny_text, tiny_tokenizer
from safetensors.torch import load_file

from modeling_electra_rtd import ElectraRtdConfig, ElectraRtdDiscriminator, ElectraRtdForPreTraining


ARCHITECTURE = {"electra": "ElectraForPreTraining", "modernbert": "ModernBertModel"}

STOCK_PROCESS = (
    REFUSE
    + """
import json
import torch, transformers
from safetensors.torch import save_file
root, ids, mask = sys.argv[1], torch.tensor(json.loads(sys.argv[2])), torch.tensor(json.loads(sys.argv[3]))
names = ["AutoModel", "AutoModelForSequenceClassification", "AutoModelForTokenClassification"]
names += ["AutoModelForQuestionAnswering"]
report, outputs = {}, {}
for folder in sys.argv[4:]:
    own = ["AutoModelForPreTraining", "ElectraForPreTraining"] if folder.startswith("electra") else []
    for name in names + own:
        model, info = getattr(transformers, name).from_pretrained(f"{root}/{folder}", output_loading_info=True)
        missing = sorted(info["missing_keys"])
        report[f"{folder} {name}"] = {"class": type(model).__name__, "missing": missing,
                                      "mismatched": sorted(map(str, info["mismatched_keys"])),
                                      "unexpected": sorted(info["unexpected_keys"])}
        with torch.no_grad():
            outputs[f"{folder} {name}"] = model.eval()(ids, attention_mask=mask)[0].contiguous()
    tokenizer = transformers.AutoTokenizer.from_pretrained(f"{root}/{folder}")
    report[f"{folder} tokenizer"] = tokenizer("the cat sat")["input_ids"]
assert "modeling_electra_rtd" not in sys.modules
save_file(outputs, f"{root}/outputs.safetensors")
print(json.dumps(report))
"""
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Every kind of pair in a folder with its tokenizer, and what a stock process made of them."""
    root = tmp_path_factory.mktemp("checkpoints")
    pairs = {}
    for family in FAMILIES:
        for sharing in ("tied", "none"):
            name = f"{family}-{sharing}"
            pairs[name] = tiny_pair(family, embedding_sharing=sharing, mask_probability=0.3)
            pairs[name].save_pretrained(root / name)
            tiny_tokenizer(root / name)
    batch = tiny_text()
    arguments = [json.dumps(batch[name].tolist()) for name in ("input_ids", "attention_mask")]
    done = subprocess.run(
        [sys.executable, "-I", "-c", STOCK_PROCESS, str(root), *arguments, *pairs],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.strip().splitlines()[-1])
    return root, pairs, report, load_file(root / "outputs.safetensors")


@pytest.fixture(params=[f"{family}-{sharing}" for family in FAMILIES for sharing in ("tied", "none")])
def name(request):
    return request.param


def test_the_folder_is_native(saved, name):
    folder = saved[0] / name
    files = {path.name for path in folder.iterdir()}
    assert files == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    family = name.partition("-")[0]
    assert (config["model_type"], config["architectures"]) == (family, [ARCHITECTURE[family]])
    assert "auto_map" not in config


def test_the_weights_are_the_stock_ones_beside_the_generators(saved, name):
    root, pairs, _, _ = saved
    family, _, sharing = name.partition("-")
    keys = set(load_file(root / name / "model.safetensors"))
    model = pairs[name]
    assert {key.split(".")[0] for key in keys} == {model.base_model_prefix, "discriminator_predictions", "generator"}
    shared = {key for key in model.state_dict() if key.startswith(f"generator.{model.base_model_prefix}.embeddings.")}
    assert shared and (shared <= keys if sharing == "none" else not shared & keys)


def test_stock_encoder_loads_whole(saved, name):
    root, pairs, report, outputs = saved
    entry = report[f"{name} AutoModel"]
    family = name.partition("-")[0]
    assert entry["class"] == {"electra": "ElectraModel", "modernbert": "ModernBertModel"}[family]
    assert not entry["missing"] and not entry["mismatched"]
    assert all(key.startswith(("generator.", "discriminator_predictions.")) for key in entry["unexpected"])
    with torch.no_grad():
        expected = pairs[name].encoder(**tiny_text()).last_hidden_state
    torch.testing.assert_close(outputs[f"{name} AutoModel"], expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("sharing", ["tied", "none"])
@pytest.mark.parametrize("model_class", ["AutoModelForPreTraining", "ElectraForPreTraining"])
def test_stock_discriminator_loads_whole_and_sees_the_same(saved, sharing, model_class):
    root, pairs, report, outputs = saved
    entry = report[f"electra-{sharing} {model_class}"]
    assert entry["class"] == "ElectraForPreTraining"
    assert not entry["missing"] and not entry["mismatched"]
    assert all(key.startswith("generator.") for key in entry["unexpected"])
    with torch.no_grad():
        expected = pairs[f"electra-{sharing}"].discriminate(**tiny_text())
    torch.testing.assert_close(outputs[f"electra-{sharing} {model_class}"], expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("task", ["SequenceClassification", "TokenClassification", "QuestionAnswering"])
def test_fine_tuning_heads_are_all_that_is_new(saved, name, task):
    entry = saved[2][f"{name} AutoModelFor{task}"]
    assert entry["class"].endswith(f"For{task}")
    heads = {key.split(".")[0] for key in entry["missing"]}
    # ModernBERT's classifiers have a prediction head before them.
    allowed = {"classifier", "head"} if name.startswith("modernbert") else {"classifier", "qa_outputs"}
    assert heads and heads <= allowed
    assert not entry["mismatched"]


def test_tokenizer_loads(saved, name):
    tokenizer = tiny_tokenizer()
    assert saved[2][f"{name} tokenizer"] == tokenizer("the cat sat")["input_ids"]
    assert len(tokenizer("the cat sat")["input_ids"]) == 5


def test_the_pair_loads_whole_and_steps_the_same(saved, name):
    root, pairs, _, _ = saved
    loaded, info = ElectraRtdForPreTraining.from_pretrained(
        root / name, output_loading_info=True, attn_implementation="sdpa"
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    words, generators = loaded.get_input_embeddings().weight, loaded.generator.get_input_embeddings().weight
    assert (words is generators) == name.endswith("tied")
    assert loaded.generator.get_output_embeddings().weight is generators
    # Not in the file: a buffer that loading leaves as it finds it.
    assert torch.equal(loaded.special_token_ids, pairs[name].special_token_ids)
    results = []
    for model in (pairs[name], loaded.eval()):
        torch.manual_seed(11)
        results.append(model(**tiny_text()))
    assert results[0].is_chosen.any()
    for key, value in results[0].items():
        assert torch.equal(results[1][key], value), key


def test_the_config_loads_the_same(saved, name):
    root, pairs, _, _ = saved
    loaded = ElectraRtdConfig.from_pretrained(root / name)
    assert loaded.to_dict() == pairs[name].config.to_dict()
    assert loaded.mask_probability == 0.3


def test_a_lone_discriminator_loads_from_the_pair(saved, name):
    root, pairs, _, _ = saved
    loaded, info = ElectraRtdDiscriminator.from_pretrained(root / name, output_loading_info=True)
    assert type(loaded) is ElectraRtdDiscriminator and not hasattr(loaded, "generator")
    assert not info["missing_keys"] and not info["mismatched_keys"]
    with torch.no_grad():
        found = loaded.eval()(**tiny_text()).logits
        assert torch.equal(found, pairs[name].discriminate(**tiny_text()))


def test_saving_again_changes_nothing(saved, name, tmp_path: Path):
    root = saved[0]
    ElectraRtdForPreTraining.from_pretrained(root / name).save_pretrained(tmp_path)
    first, second = (load_file(folder / "model.safetensors") for folder in (root / name, tmp_path))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert (tmp_path / "config.json").read_bytes() == (root / name / "config.json").read_bytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_is_kept_on_disk(family, tmp_path):
    model = tiny_pair(family).to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert config["dtype"] == "bfloat16"
    loaded = ElectraRtdForPreTraining.from_pretrained(tmp_path)
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in ElectraRtdForPreTraining.from_pretrained(tmp_path, dtype=torch.float32).parameters()} == {
        torch.float32
    }
