"""The wheel, installed where pip installs it: it finds what it ships, from any folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.release import quick_export
from helpers.tiny import tiny_pair, tiny_tokenizer


ROOT = Path(__file__).parents[1]
pytest.importorskip("setuptools", "77", reason="setuptools is not installed, or older than pyproject.toml asks for")


def pip(*arguments: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: a build leaves its folders beside what it builds."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    names = ("modeling_electra_rtd", "configuration", "model_cards")
    for path in [ROOT / name for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE")] + [
        path for name in names for path in (ROOT / name).rglob("*") if path.is_file() and path.suffix != ".pyc"
    ]:
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", folder, source)
    (built,) = folder.glob("*.whl")
    return built


USE = """
import sys
from pathlib import Path

import modeling_electra_rtd
assert Path(modeling_electra_rtd.__file__).is_relative_to(sys.argv[1]), modeling_electra_rtd.__file__

from modeling_electra_rtd.finetuning.recipes import read_finetuning_recipe
from modeling_electra_rtd.pretraining.recipes import model_config, read_recipe
from modeling_electra_rtd.quickstart import quickstart_documents
from modeling_electra_rtd.common.recipe_files import configuration_folder
from modeling_electra_rtd.release.card import write_model_card

assert len(quickstart_documents()) > 100
assert read_finetuning_recipe("small")["learning_rate"]
assert read_recipe("tiny", {"output_dir": "runs"}).model.attn_implementation == "eager"
assert model_config("small.json").hidden_size == 256
assert (configuration_folder() / "accelerate" / "multi_gpu.yaml").is_file()
write_model_card(sys.argv[2])
"""


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    tiny_pair("electra").save_pretrained(folder / "joint")
    tiny_tokenizer(folder / "joint")
    quick_export(str(folder / "joint"), str(folder / "out"))
    return folder / "out"


@pytest.mark.parametrize("scheme", ["target", pytest.param("prefix", marks=pytest.mark.slow)])
def test_an_installed_package_finds_its_recipes_and_its_card(scheme, wheel, release, tmp_path):
    site = tmp_path / "site"
    # Where nothing of `sys.prefix` is. A user's folder is a prefix of its own too, which virtual environments refuse.
    pip("install", "--no-deps", "--no-index", "--no-compile", "--ignore-installed", f"--{scheme}", site, wheel)
    (package,) = (path for path in site.rglob("modeling_electra_rtd") if path.is_dir())
    packages = package.parent
    assert not list(site.rglob("share/electra-rtd"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (release / "README.md").unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", USE, str(packages), str(release)],
        capture_output=True,
        text=True,
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(packages)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (release / "README.md").read_text(encoding="utf-8").startswith("---\n")
