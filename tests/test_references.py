"""Names of models: folders win, names of the Hub are taken apart, and the rest is refused in one line."""

import json
import os

import pytest
from helpers.tiny import tiny_electra_config, tiny_pair, tiny_tokenizer

from modeling_electra_rtd.common.pairs import holds_pair
from modeling_electra_rtd.common.references import find_model, parse_hub_name
from modeling_electra_rtd.data.tokenization import load_tokenizer
from modeling_electra_rtd.finetuning.kinds.heads import load_config
from modeling_electra_rtd.inspection.tokens import load_for_inspection


@pytest.mark.parametrize(
    ("text", "id", "revision", "subfolder"),
    [
        ("lab/pair", "lab/pair", None, ""),
        ("lab/pair/", "lab/pair", None, ""),
        ("lab/pair@v1.0", "lab/pair", "v1.0", ""),
        ("lab/pair/generator", "lab/pair", None, "generator"),
        ("lab/pair@v1/runs/last/", "lab/pair", "v1", "runs/last"),
        ("lab/pair@refs/pr/1/generator", "lab/pair", "refs/pr/1", "generator"),
        ("lab/pair@new%2Fhead/generator", "lab/pair", "new/head", "generator"),
        ("lab/pair@v1/a@b", "lab/pair", "v1", "a@b"),
        ("bert-base-uncased", "bert-base-uncased", None, ""),
        ("bert-base-uncased@main/sub", "bert-base-uncased", "main", "sub"),
        ("none/such", "none/such", None, ""),
        ("hf://lab/pair@v1/generator", "lab/pair", "v1", "generator"),
        ("hf://models/lab/pair", "lab/pair", None, ""),
    ],
)
def test_names_of_the_hub(text, id, revision, subfolder):
    assert parse_hub_name(text) == (id, revision, subfolder)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "'': no such folder"),
        ("./nowhere", "no such folder"),
        ("/nowhere", "no such folder"),
        ("~/nowhere", "no such folder"),
        ("runs//x", "no such folder"),
        ("runs/../x", "no such folder"),
        ("C:\\models\\pair", "no such folder"),
        ("C:/models/pair", "no such folder"),
        ("lab/pair:generator", "no id of the Hub .*allowed is FOLDER, .*OWNER/NAME@REVISION/FOLDER"),
        ("lab/pair@", "Empty revision"),
        ("@v1", "no id of the Hub"),
        ("hf://pair", "no id of the Hub"),
        ("hf://lab/pair/../other", r"no '\.\.'"),
        ("lab/pair/generator@v1", "give 'lab/pair@v1/generator'"),
        ("hf://datasets/lab/text", "is a dataset of the Hub, not a model"),
        ("https://huggingface.co/lab/pair", "is an address; give its id, 'lab/pair'"),
        ("huggingface.co/lab/pair", "give its id, 'lab/pair'"),
        ("https://huggingface.co/lab/pair/tree/new%2Fhead/generator", "'lab/pair@new%2Fhead/generator'"),
        ("https://huggingface.co/datasets/lab/text", "is an address of a dataset"),
        ("https://example.com/lab/pair", "is an address, and of no model of the Hub"),
    ],
)
def test_what_is_no_name_is_refused_in_one_line(text, problem):
    with pytest.raises(ValueError, match=problem) as error:
        find_model(text, "discriminator_checkpoint")
    assert str(error.value).startswith(f"discriminator_checkpoint {text!r}") and "\n" not in str(error.value)


def test_a_folder_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("lab/pair@v1", "lab/pair@v1/generator", "bert", "~", "https:/example.com"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        for text in (name, f"{name}/", f"./{name}", str(tmp_path / name)):
            found = find_model(text)
            assert (str(found), found.revision, found.from_hub) == (text, None, None)
            assert os.path.samefile(found.name, name)
    assert os.path.samefile(find_model("~/bert").name, tmp_path / "bert")
    assert os.path.samefile(find_model(tmp_path / "bert").name, "bert")


def test_a_folder_is_not_taken_for_a_revision_of_the_hub(tmp_path, monkeypatch):
    """`from_pretrained("lab/pair", revision="v1")` would load the folder lab/pair."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab" / "pair").mkdir(parents=True)
    with pytest.raises(ValueError, match="the folder 'lab/pair' is here, which has no revisions"):
        find_model("lab/pair@v1")
    with pytest.raises(ValueError, match="the folder 'lab/pair' is here, which has no folder 'generator'"):
        find_model("lab/pair/generator")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="'file' is a file; give its folder"):
        find_model("file")


def test_files_of_a_folder_and_of_the_one_around_it(tmp_path):
    (tmp_path / "generator").mkdir()
    (tmp_path / "config.json").write_text("{}")
    inner = find_model(str(tmp_path / "generator"))
    assert inner.find("model.safetensors", "config.json") is None and inner.folder_name == "generator"
    assert inner.parent.find("model.safetensors", "config.json").samefile(tmp_path / "config.json")
    with pytest.raises(ValueError, match=r"generator': cannot be loaded \(it has no config.json\)"):
        inner.require("config.json")
    with pytest.raises(ValueError, match=r"cannot be loaded \(it holds none of a, b\)"):
        inner.require("a", "b")


@pytest.mark.parametrize("load", [load_tokenizer, load_config, load_for_inspection])
def test_code_of_a_checkpoint_does_not_run(load, tmp_path, monkeypatch):
    """Nor is the user asked whether it may, as transformers does: this user would say yes."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    tiny_pair("electra").save_pretrained(tmp_path)
    tiny_tokenizer(tmp_path)
    (tmp_path / "foreign.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    for name, classes in (("config.json", {"AutoConfig": "foreign.C"}), ("tokenizer_config.json", {})):
        values = json.loads((tmp_path / name).read_text())
        values |= {"auto_map": {"AutoTokenizer": ["foreign.T", None], **classes}, "model_type": "foreign"}
        (tmp_path / name).write_text(json.dumps(values | {"tokenizer_class": "Foreign"}))
    with pytest.raises(ValueError, match="custom code"):
        load(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_pairs_are_told_from_others(tmp_path):
    with pytest.raises(ValueError, match="no config.json"):
        holds_pair(tmp_path)
    tiny_electra_config().save_pretrained(tmp_path)
    assert not holds_pair(tmp_path)
    tiny_pair("electra").save_pretrained(tmp_path)
    assert holds_pair(tmp_path) and holds_pair(str(tmp_path)) and holds_pair(find_model(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"a": 1})[:-1])
    with pytest.raises(ValueError, match="is not a valid JSON file"):
        holds_pair(tmp_path)
