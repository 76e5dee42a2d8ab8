"""Hostile folders are refused with the reason, and honest ones pass."""

import json
import os
import pickle
import shutil

import pytest
import torch
from helpers.tiny import tiny_config, tiny_pair, tiny_tokenizer
from safetensors.torch import save_file
from transformers import ElectraForPreTraining

from modeling_electra_rtd.release import scan
from modeling_electra_rtd.release.remote_code import CUSTOM_PIPELINES, auto_map_of, remote_code_files
from modeling_electra_rtd.release.scan import uploadable_files


TOKEN = "hf_" + "a1B2" * 9


@pytest.fixture
def release(tmp_path):
    folder = tmp_path / "release"
    ElectraForPreTraining(tiny_config("electra")).save_pretrained(folder)
    tiny_tokenizer(folder)
    (folder / "README.md").write_text("# A model\n\nSee https://example.org/home/of/it and `generator/`.\n")
    return folder


def refusal(folder) -> str:
    with pytest.raises(ValueError, match="must not be uploaded") as caught:
        uploadable_files(str(folder))
    return str(caught.value)


def test_a_release_passes(release):
    names = [path.as_posix() for path in uploadable_files(str(release))]
    assert names == sorted(names) and {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= {*names}


def test_only_this_packages_own_code_passes(release):
    for name, path in remote_code_files().items():
        shutil.copyfile(path, release / name)
    config = json.loads((release / "config.json").read_text())
    honest = config | {"auto_map": auto_map_of("electra"), "custom_pipelines": CUSTOM_PIPELINES}
    (release / "config.json").write_text(json.dumps(honest))
    assert {path.as_posix() for path in uploadable_files(str(release))} > set(remote_code_files())
    for key, value in (
        ("auto_map", auto_map_of("electra") | {"AutoConfig": "configuration_electra_rtd.ElectraRtdConfig"}),
        ("auto_map", {"AutoModelForPreTraining": "evil/repo--modeling_electra_rtd.ElectraRtdForPreTraining"}),
        ("custom_pipelines", {"fill-mask": {"impl": "evil/repo--run.Run"}}),
    ):
        (release / "config.json").write_text(json.dumps(honest | {key: value}))
        assert f"config.json: {key} names code that is not electra-rtd's" in refusal(release)
    (release / "config.json").write_text(json.dumps(honest))
    tokenizer = json.loads((release / "tokenizer_config.json").read_text())
    evil = {"AutoTokenizer": [None, "evil/repo--tokenize.Tokenizer"]}
    (release / "tokenizer_config.json").write_text(json.dumps(tokenizer | {"auto_map": evil}))
    assert "tokenizer_config.json: auto_map names code" in refusal(release)
    (release / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    code = (release / "corruption.py").read_bytes()
    (release / "corruption.py").write_bytes(code + b"import os\n")
    assert "corruption.py is not of this version of electra-rtd; export the checkpoint again" in refusal(release)
    others = (release / "backbones.py").read_bytes()
    (release / "backbones.py").write_bytes(others + b"import os\n")
    assert "uploaded: backbones.py, corruption.py are not of this version" in refusal(release)
    (release / "backbones.py").unlink()
    assert "backbones.py is not there, but config.json names the code of electra-rtd; export" in refusal(release)
    (release / "backbones.py").write_bytes(others)
    (release / "corruption.py").write_bytes(code)
    (release / "generator").mkdir()
    (release / "generator" / "corruption.py").write_bytes(code)
    assert "generator/corruption.py is code, and none of what electra-rtd export writes" in refusal(release)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("helper.py", b"import os\n", "helper.py is code, and none of what electra-rtd export writes"),
        ("weights.bin", pickle.dumps({"a": 1}), "weights.bin is a pickle"),
        ("vocab.txt", pickle.dumps([1]), "vocab.txt is a pickle"),
        ("training_args.bin", b"x", "training_args.bin is pickled training arguments"),
        ("optimizer.pt", b"x", "optimizer.pt is the optimizer's state"),
        ("notes.txt", b"mine", "notes.txt is no part of a release"),
        ("run.sh", b"rm -rf", "run.sh is no part of a release"),
        ("model-2.safetensors", b"", "model-2.safetensors is empty"),
        ("recipe.yaml", f"a: 1\ntoken: {TOKEN}\n".encode(), "recipe.yaml, line 2: a Hugging Face token"),
        ("recipe.yaml", b"blocks: /home/anna/blocks\n", "recipe.yaml, line 1: an absolute path, /home/anna"),
        ("recipe.yaml", b"blocks: C:\\Users\\anna\n", "an absolute path"),
        ("recipe.yaml", b"author: wilhelmina\n", "the name of this machine's user"),
        ("README.md", b"\xff\xfe", "README.md is not text"),
        ("merges.txt", TOKEN.encode(), "merges.txt, line 1: a Hugging Face token"),
        ("README.md", b"---\nlicense: [\n---\n", "README.md: its metadata cannot be read"),
        ("README.md", b"---\n- license\n---\n", "README.md: its metadata cannot be read"),
        ("generation_config.json", b"[]", "generation_config.json is no JSON object"),
        ("LICENSE\n-mine", b"mine", "'LICENSE\\n-mine' has a name that does not print"),
    ],
)
def test_what_is_refused_and_where(name, content, reason, release, monkeypatch):
    monkeypatch.setattr(scan.getpass, "getuser", lambda: "wilhelmina")
    (release / name).write_bytes(content)
    found = refusal(release)
    assert reason in found and TOKEN not in found


def test_torch_saves_are_refused_under_any_name(release):
    torch.save({"a": torch.ones(1)}, release / "recipe.yaml")
    assert "recipe.yaml is a pickle or an archive of one" in refusal(release)


def test_links_are_refused(release, tmp_path):
    (tmp_path / "secret.txt").write_text("mine")
    (release / "LICENSE").symlink_to(tmp_path / "secret.txt")
    assert "LICENSE is a symbolic link out of the folder" in refusal(release)


def test_what_is_no_file_is_refused(release):
    os.mkfifo(release / "LICENSE")
    assert "LICENSE is no file" in refusal(release)


def test_a_joint_checkpoint_is_no_release(tmp_path):
    tiny_pair("electra").save_pretrained(tmp_path)
    (tmp_path / "optimizer.pt").write_bytes(b"x")
    found = refusal(tmp_path)
    assert f"it is a training checkpoint; make a release of it with electra-rtd export {tmp_path}" in found


def test_weights_are_opened(release):
    whole = (release / "model.safetensors").read_bytes()
    (release / "model.safetensors").write_bytes(whole[:-100])
    assert "model.safetensors is broken" in refusal(release)
    (release / "model.safetensors").write_bytes(b"not weights at all")
    assert "model.safetensors is broken" in refusal(release)
    save_file({"fine": torch.ones(2), "worn": torch.tensor([1.0, float("nan")])}, release / "model.safetensors")
    assert "model.safetensors: weight worn is not finite" in refusal(release)
    save_file({"fine": torch.ones(2)}, release / "model.safetensors", {"from": "/home/anna/run"})
    assert "model.safetensors, metadata: an absolute path, /home/anna" in refusal(release)


def test_a_vocabulary_may_hold_any_word(release, monkeypatch):
    monkeypatch.setattr(scan.getpass, "getuser", lambda: "cat")
    (release / "vocab.txt").write_text("cat\n/home/cat\n")
    uploadable_files(str(release))


def test_nothing_and_nowhere(release, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "it is empty" in refusal(tmp_path / "empty")
    (release / "model.safetensors").unlink()
    assert "no config.json with *.safetensors" in refusal(release)
    with pytest.raises(ValueError, match="no such folder"):
        uploadable_files(str(tmp_path / "nowhere"))
