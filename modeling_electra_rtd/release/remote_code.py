"""The code that travels with a release, to be loaded with `trust_remote_code=True` where this package is missing."""

import shutil
import sys
from pathlib import Path

from transformers import CONFIG_MAPPING, PreTrainedConfig
from transformers.dynamic_module_utils import get_relative_import_files

from ..model.gru_encoder import AUTO_MAP, GruEncoderConfig
from ..model.modeling_electra_rtd import ElectraRtdForPreTraining
from ..model.pipeline_electra_rtd import TASK, ReplacedTokenDetectionPipeline


def _reference(code: type) -> str:
    return f"{code.__module__.rpartition('.')[2]}.{code.__name__}"


def auto_map_of(model_type: str) -> dict[str, str]:
    """What the config of a release says about its code, in the words of `transformers`: the pair, by its family."""
    module, _, name = _reference(ElectraRtdForPreTraining).partition(".")
    family = CONFIG_MAPPING[model_type].__name__.removesuffix("Config")
    # The one family that brings its own models.
    models = AUTO_MAP if model_type == GruEncoderConfig.model_type else {}
    return {**models, "AutoModelForPreTraining": f"{module}.{name.replace('Electra', family, 1)}"}


CUSTOM_PIPELINES = {
    TASK: {"impl": _reference(ReplacedTokenDetectionPipeline), "pt": ["AutoModelForPreTraining"], "type": "text"}
}


def remote_code_files() -> dict[str, Path]:
    """The files of this package that travel, by their names in a release: two classes and all that they import."""
    return _files_of(ElectraRtdForPreTraining, ReplacedTokenDetectionPipeline)


def family_code_files() -> dict[str, Path]:
    """The part of them that a family which stock classes do not know brings along into every folder."""
    return _files_of(GruEncoderConfig)


def _files_of(*codes: type) -> dict[str, Path]:
    paths: list[str] = []
    for code in codes:
        entry = sys.modules[code.__module__].__file__
        assert entry is not None
        paths += [entry, *get_relative_import_files(entry)]
    return {path.name: path for path in sorted(map(Path, paths))}


def add_remote_code(folder: Path, config: PreTrainedConfig) -> None:
    """Copy the files into a release, and name their classes in its config."""
    config.auto_map, config.custom_pipelines = auto_map_of(config.model_type), CUSTOM_PIPELINES
    for name, path in remote_code_files().items():
        shutil.copyfile(path, folder / name)
