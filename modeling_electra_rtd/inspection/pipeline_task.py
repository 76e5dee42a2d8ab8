"""The task `replaced-token-detection` of `transformers.pipeline`; importing this module registers it."""

from typing import Any

from transformers import AutoModelForPreTraining, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_PRETRAINING_MAPPING_NAMES
from transformers.pipelines import PIPELINE_REGISTRY

from ..model.backbones import HUB_ARGUMENTS, config_from, discriminator_architecture_of, is_backbone
from ..model.checkpoint_layout import is_joint, objective_of
from ..model.discriminator import ElectraRtdDiscriminator
from ..model.loading import check_whole
from ..model.pipeline_electra_rtd import HEAD, TASK, ReplacedTokenDetectionPipeline
from ..model.stock_models import without_loading_reports


class DiscriminatorLoader:
    """What `pipeline` loads a checkpoint with."""

    @classmethod
    def from_pretrained(cls, name_or_path: str, **arguments: Any) -> PreTrainedModel:
        """A discriminator in evaluation mode, from a folder or the Hub; code in a checkpoint is not run.

        A stock model where one has the head (`ElectraForPreTraining`), else `ElectraRtdDiscriminator`: for a joint
        checkpoint, and for an encoder with the head next to it. A checkpoint without the head is loaded without it,
        and that of a family without encoder as its stock class, for the pipeline to refuse: `pipeline` hides what a
        loader raises behind pages of tracebacks.
        """
        config = config_from(name_or_path, **{key: arguments[key] for key in HUB_ARGUMENTS if key in arguments})
        # By name: a mapping of classes also holds those of code that other checkpoints brought into this process.
        stock = MODEL_FOR_PRETRAINING_MAPPING_NAMES.get(config.model_type)
        has_head = stock == discriminator_architecture_of(config.model_type) and not is_joint(objective_of(config))
        is_stock = stock is not None and (has_head or not is_backbone(config))
        model_class: Any = AutoModelForPreTraining if is_stock else ElectraRtdDiscriminator
        arguments["trust_remote_code"] = False
        with without_loading_reports():
            model, report = model_class.from_pretrained(name_or_path, output_loading_info=True, **arguments)
        check_whole(name_or_path, report, model)
        if any(key.startswith(HEAD) for key in report["missing_keys"]):
            delattr(model, HEAD)
            # What the checkpoint calls itself, for the refusal.
            model.config.architectures = config.architectures
        return model


PIPELINE_REGISTRY.register_pipeline(
    TASK,
    pipeline_class=ReplacedTokenDetectionPipeline,
    pt_model=DiscriminatorLoader,
    default={"model": ("google/electra-small-discriminator", "main")},
    type="text",
)
# With it, `save_pretrained` of the pipeline would copy its file into the checkpoint and name it in the config; what
# is saved here stays a native checkpoint.
delattr(ReplacedTokenDetectionPipeline, "_registered_impl")
