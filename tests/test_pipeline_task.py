"""`pipeline("replaced-token-detection")` of checkpoints, releases and pairs on disk."""

import dataclasses
import subprocess
import sys

import pytest
import torch
from helpers.pipeline import TEXT, probabilities
from helpers.release import quick_export
from helpers.tiny import ALL_FAMILIES, FAMILIES, VOCABULARY, tiny_config, tiny_pair, tiny_tokenizer
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    ElectraForPreTraining,
    ModernBertModel,
    pipeline,
)

from modeling_electra_rtd import ElectraRtdDiscriminator, ReplacedTokenDetectionPipeline
from modeling_electra_rtd.inspection.pipeline_task import DiscriminatorLoader
from modeling_electra_rtd.model.pipeline_electra_rtd import TASK


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A joint checkpoint and a release of each family, and the pairs."""
    root = tmp_path_factory.mktemp("pipeline")
    pairs = {}
    for family in FAMILIES:
        pairs[family] = tiny_pair(family)
        pairs[family].save_pretrained(root / family)
        tiny_tokenizer(root / family)
        quick_export(str(root / family), str(root / f"{family}-release"), remote_code=False)
        quick_export(str(root / family), str(root / f"{family}-release-with-code"))
    return root, pairs


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["{}", "{}-release"])
def test_checkpoints_and_releases_give_what_the_pair_says(folders, tokenizer, family, kind):
    root, pairs = folders
    detect = pipeline(TASK, model=str(root / kind.format(family)), device="cpu", bf16=False)
    stock_class = family == "electra" and kind.endswith("release")
    assert isinstance(detect.model, ElectraForPreTraining) == stock_class
    assert not hasattr(detect.model, "generator")
    with torch.no_grad():
        expected = pairs[family].discriminate(torch.tensor([tokenizer(TEXT)["input_ids"]])).sigmoid()[0, 1:-1]
    torch.testing.assert_close(probabilities(detect(TEXT)), expected)


@pytest.mark.parametrize("family", [family for family in ALL_FAMILIES if family not in FAMILIES])
def test_releases_of_every_family_are_judged(tokenizer, family, tmp_path):
    # Most have a stock class for pre-training, of other objectives.
    pair = tiny_pair(family)
    pair.save_pretrained(tmp_path / "pair")
    tiny_tokenizer(tmp_path / "pair")
    quick_export(str(tmp_path / "pair"), str(tmp_path / "release"), remote_code=False)
    with torch.no_grad():
        expected = pair.discriminate(torch.tensor([tokenizer(TEXT)["input_ids"]])).sigmoid()[0, 1:-1]
    for kind in ("pair", "release"):
        detect = pipeline(TASK, model=str(tmp_path / kind), device="cpu", bf16=False)
        torch.testing.assert_close(probabilities(detect(TEXT)), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_release_with_code_is_judged_without_running_it(folders, tokenizer, family):
    root, pairs = folders
    name = str(root / f"{family}-release-with-code")
    before = set(sys.modules)
    # By name alone, transformers asks for the flag before it looks at the tasks that are registered.
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        pipeline(TASK, model=name, device="cpu", bf16=False)
    for model in (DiscriminatorLoader.from_pretrained(name), ElectraRtdDiscriminator.from_pretrained(name)):
        detect = pipeline(TASK, model=model, tokenizer=name, device="cpu", bf16=False)
        with torch.no_grad():
            expected = pairs[family].discriminate(torch.tensor([tokenizer(TEXT)["input_ids"]])).sigmoid()[0, 1:-1]
        torch.testing.assert_close(probabilities(detect(TEXT)), expected)
    # Other tests of this process may have run such code.
    assert not [module for module in set(sys.modules) - before if module.startswith("transformers_modules")]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_joint_model_is_judged_by_its_discriminator(folders, tokenizer, family):
    pair = folders[1][family]
    detect = ReplacedTokenDetectionPipeline(model=pair, tokenizer=tokenizer, device="cpu", bf16=False)
    torch.manual_seed(0)
    with torch.no_grad():
        output = pair(torch.tensor([tokenizer(TEXT)["input_ids"]]))
    # The joint forward corrupts the text; shown the ids that it made, the pipeline finds what it finds.
    corrupted = output.corrupted_input_ids[0, 1:-1].tolist()
    tokenized = detect.tokenize(TEXT)
    assert corrupted != tokenized.ids
    results = detect(dataclasses.replace(tokenized, ids=corrupted))
    torch.testing.assert_close(probabilities(results), output.replaced_probs[0, 1:-1])
    assert [result["token"] for result in results] == tokenizer.convert_ids_to_tokens(corrupted)


@pytest.mark.parametrize("family", FAMILIES)
def test_stock_fill_mask_takes_the_generator_of_a_release(folders, family):
    root, pairs = folders
    generator = str(root / f"{family}-release" / "generator")
    filled = pipeline("fill-mask", model=generator, device="cpu")("the [MASK] sat on a mat .", top_k=VOCABULARY)
    tokenizer = AutoTokenizer.from_pretrained(generator)
    ids = tokenizer("the [MASK] sat on a mat .", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = pairs[family].generator(ids).logits[0, 2].softmax(-1)
    assert len(filled) == VOCABULARY
    found = torch.zeros(VOCABULARY)
    for guess in filled:
        found[guess["token"]] = guess["score"]
    torch.testing.assert_close(found, expected)


def test_what_has_no_detection_head_is_refused_in_one_line(folders, tmp_path):
    root, _ = folders
    ModernBertModel(tiny_config("modernbert")).save_pretrained(tmp_path / "plain")
    bert = BertConfig(
        vocab_size=VOCABULARY, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    BertForMaskedLM(bert).save_pretrained(tmp_path / "bert")
    for folder, named in (
        (root / "electra-release" / "generator", "ElectraForMaskedLM"),
        (root / "modernbert-release" / "generator", "ModernBertForMaskedLM"),
        (tmp_path / "plain", "ModernBertModel"),
        (tmp_path / "bert", "BertForMaskedLM"),
    ):
        tiny_tokenizer(folder)
        with pytest.raises(ValueError, match=f"is {named} without discriminator_predictions") as raised:
            pipeline(TASK, model=str(folder), device="cpu", bf16=False)
        assert "\n" not in str(raised.value) and str(folder) in str(raised.value)
    generator = AutoModelForMaskedLM.from_pretrained(root / "electra-release", subfolder="generator")
    with pytest.raises(ValueError, match="is ElectraForMaskedLM without"):
        ReplacedTokenDetectionPipeline(model=generator, tokenizer=tiny_tokenizer())


def test_saving_the_pipeline_saves_a_stock_checkpoint(folders, tmp_path):
    root, _ = folders
    detect = pipeline(TASK, model=str(root / "electra-release"), device="cpu", bf16=False)
    detect.save_pretrained(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert "custom_pipelines" not in (tmp_path / "config.json").read_text(encoding="utf-8")
    assert pipeline(TASK, model=str(tmp_path), device="cpu", bf16=False)(TEXT) == detect(TEXT)


def test_the_loader_leaves_no_head_that_was_not_trained(folders):
    root, _ = folders
    model = DiscriminatorLoader.from_pretrained(str(root / "modernbert-release" / "generator"))
    assert not hasattr(model, "discriminator_predictions") and not model.training


def test_the_root_stays_light_and_its_name_registers():
    program = """
import sys
import modeling_electra_rtd
assert not {"torch", "transformers"} & set(sys.modules)
modeling_electra_rtd.ReplacedTokenDetectionPipeline
from transformers.pipelines import PIPELINE_REGISTRY
assert "replaced-token-detection" in PIPELINE_REGISTRY.get_supported_tasks()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr.strip()
