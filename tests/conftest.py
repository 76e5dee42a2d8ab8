"""The environment of every test: no network, no user caches or credentials, one thread per process.

Hugging Face libraries read their environment when they are imported, so it is set here, before any test imports them.
"""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings


# pytest-xdist workers inherit the controller's folder, which the controller removes when the session ends.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="electra-rtd-tests-")
    atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)
for name in ("HF_TOKEN", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_MODULES_CACHE", "HF_ENDPOINT"):
    os.environ.pop(name, None)
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A slow machine is no failure: what is timed is timed by benchmarks.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


def pytest_runtest_setup() -> None:
    import torch

    # What a test draws does not depend on the tests before it, nor on how many processes share them.
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Folders of prepared blocks and of their tokenizer, which no test writes into."""
    from helpers.corpus import make_blocks

    return make_blocks(tmp_path_factory.mktemp("data"))


@pytest.fixture
def remote_code_forgotten() -> Iterator[None]:
    """Undo what code of a checkpoint registers in this process, so that no later test gets its classes."""
    from transformers.models.auto import configuration_auto, modeling_auto

    known = [*vars(modeling_auto).values(), configuration_auto.CONFIG_MAPPING]
    mappings = [mapping for mapping in known if isinstance(getattr(mapping, "_extra_content", None), dict)]
    before, modules = [dict(mapping._extra_content) for mapping in mappings], set(sys.modules)
    yield
    for mapping, content in zip(mappings, before, strict=True):
        mapping._extra_content.clear()
        mapping._extra_content.update(content)
    for name in [name for name in sys.modules if name.startswith("transformers_modules") and name not in modules]:
        del sys.modules[name]
