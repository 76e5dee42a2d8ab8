"""The model card of a release: every number comes from a record, and what no record holds reads "not measured"."""

import dataclasses
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import ModelCard, ModelCardData

from ..common.files import CURVES, weights_hash
from ..common.recipe_files import shipped_folder
from ..common.references import parse_hub_name
from ..common.training_arguments import ElectraRtdTrainingArguments
from ..finetuning.report import markdown_table
from ..model.checkpoint_layout import RTD_KEY, generates_by_masked_lm
from ..model.configuration_electra_rtd import OBJECTIVE_FIELDS, VOCABULARY_FIELDS, ElectraRtdConfig
from ..model.gru_encoder import AUTO_MAP
from ..model.objectives import OBJECTIVES
from .card_records import (
    bare,
    check_weights,
    checked_record,
    energy,
    file_name,
    hub_results,
    measured,
    number,
    one_line,
    read_record,
    tuning_row,
)


CARD = "README.md"
_TEMPLATE = "template.md.jinja"

_SIZES = {
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "attention heads": "num_attention_heads",
    "width of the feed-forward part": "intermediate_size",
    "positions": "max_position_embeddings",
    "vocabulary": "vocab_size",
}
# Named one by one: a recipe may hold any training argument, paths and tokens among them.
_RECIPE_FIELDS = {
    "data": ("max_length",),
    "model": (
        "objective generator_kind generator_width generator_depth mask_probability mask_token_probability "
        "sampling_temperature generator_loss_weight discriminator_loss_weight embedding_sharing attn_implementation"
    ).split(),
    "training": (
        "per_device_train_batch_size gradient_accumulation_steps optim learning_rate muon_learning_rate adam_beta1 "
        "adam_beta2 adam_epsilon weight_decay max_grad_norm warmup_steps lr_scheduler_type "
        "initial_sampling_temperature sampling_temperature_decay_steps precision bf16 fp16 torch_compile seed"
    ).split(),
}
# Most runs leave these alone, so they stand in a card only where they are not the default.
_SELDOM_SET = {
    "data": (),
    # The others say which ids are tokens.
    "model": tuple(name for name in OBJECTIVE_FIELDS if name not in VOCABULARY_FIELDS),
    "training": (
        "lr_scheduler_kwargs decay_steps adam_update_clipping muon_momentum initial_mask_probability "
        "mask_probability_decay_steps initial_batch_size batch_size_warmup_steps initial_sequence_length "
        "sequence_length_warmup_steps"
    ).split(),
}
_DEFAULTS = {
    field.name: field.default
    for arguments in (ElectraRtdTrainingArguments, ElectraRtdConfig)
    for field in dataclasses.fields(arguments)
}
# Values of lr_scheduler_type with which the learning rate warms up and then decays.
_DECAYING = (
    "linear cosine cosine_with_restarts polynomial inverse_sqrt cosine_with_min_lr cosine_warmup_with_min_lr "
    "warmup_stable_decay"
).split()
_HELD_OUT = (
    "generator_loss mlm_accuracy replaced_rate discriminator_loss discriminator_auc discriminator_precision "
    "discriminator_recall masked_lm_loss"
).split()
# The last lines of the code that asks the head for every token.
_LOOPS = {
    kind: (
        f'for token, {kind} in zip(tokenizer.convert_ids_to_tokens(batch["input_ids"][0]), {values}.tolist()):\n'
        f'    print(f"{{{kind}:.3f}}  {{token}}")'
    )
    for kind, values in (("probability", "logits.sigmoid()"), ("energy", "logits"))
}
# The first bytes of every PNG.
_PNG = b"\x89PNG\r\n\x1a\n"
# How many texts a card names.
_NAMES = 10
_HUB_ID = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*")
_HUB_NAME = re.compile(rf"{_HUB_ID.pattern}(?:@[\w.%-]+)?(?:/[\w./-]+)?")
_LEAK = re.compile(r"(?<![\w./:])(?:~|[A-Za-z]:)?[\\/](?:[^\s\\/|`]+[\\/])+[^\s\\/|`]+|\bhf_[A-Za-z0-9]{20,}")


def check_picture(path: Path) -> None:
    """Refuse a file that is not a PNG, or a link to a file elsewhere: its content would go into a release.

    Raises:
        ValueError: naming the file.
    """
    if path.is_symlink() and not path.resolve().is_relative_to(path.parent.resolve()):
        raise ValueError(f"{path} is a link to {path.resolve()}; a release takes no files from elsewhere")
    with path.open("rb") as file:
        if file.read(len(_PNG)) != _PNG:
            raise ValueError(f"{path} is not a PNG; a release takes the picture of the run's curves and nothing else")


def release_facts(folder: Path) -> dict[str, Any]:
    """What a card needs of the release itself: both configs, and the hash of its weights."""
    generator = folder / "generator" / "config.json"
    return {
        "config": read_record(folder / "config.json"),
        "generator_config": read_record(generator) if generator.is_file() else None,
        "weights_sha256": weights_hash(folder),
    }


def write_model_card(
    release_folder: str | Path,
    run_record: str | Path | dict[str, Any] | None = None,
    finetuning_records: Iterable[str | Path] = (),
    language: list[str] | None = None,
    license: str | None = None,
    also_weights: str | None = None,
    curves: str | Path | None = None,
    tags: Iterable[str] = (),
    repo_id: str | None = None,
    objective: dict[str, Any] | None = None,
    origin: str | None = None,
    left_out: Iterable[str] = (),
) -> Path:
    """Write `README.md` of a release, and next to it the curves of the run.

    Args:
        run_record: `run.json` of the pre-training, or what it holds; without it everything it would say reads "not
            measured".
        finetuning_records: `record.json` of fine-tuning that began with this release.
        language: codes such as `en`.
        license: identifier of the Hub, such as `apache-2.0`.
        also_weights: hash of the weights of the joint checkpoint, from which fine-tuning may have begun as well.
        curves: picture of the run's curves; `None` takes the one next to a `run.json`.
        tags: for the Hub, in addition to the card's own.
        repo_id: `OWNER/NAME` that the release goes to, so that the card's code runs as it stands; `None` calls it by
            the folder's name.
        objective: fields of `ElectraRtdConfig`; `None` reads them in the release, and takes RTD where it says nothing.
        origin: what other code trained, in words, of a release that was converted from it.
        left_out: lines that say what of it the release has no place for.

    Returns:
        The path of the card.

    Raises:
        ValueError: for a file that is no such record, fine-tuning that began with other weights, two records of one
            task, or a language or licence that is no identifier.
    """
    folder = Path(release_folder)
    if isinstance(run_record, str | Path):
        curves = curves or Path(run_record).parent / CURVES
        run_record = read_record(run_record)
    has_curves = curves is not None and Path(curves).is_file()
    card = render_model_card(
        repo_id or folder.name,
        release_facts(folder),
        run_record,
        [read_record(path) for path in finetuning_records],
        language=language,
        license=license,
        curves=CURVES if has_curves else None,
        also_weights=also_weights,
        tags=tags,
        objective=objective,
        origin=origin,
        left_out=left_out,
    )
    if has_curves:
        assert curves is not None
        check_picture(Path(curves))
        shutil.copyfile(curves, folder / CURVES)
    (folder / CARD).write_text(card, encoding="utf-8")
    return folder / CARD


def render_model_card(
    name: str,
    release: dict[str, Any],
    run: dict[str, Any] | None,
    finetuning: list[dict[str, Any]],
    *,
    language: list[str] | None = None,
    license: str | None = None,
    curves: str | None = None,
    also_weights: str | None = None,
    tags: Iterable[str] = (),
    superseded_by: str | None = None,
    objective: dict[str, Any] | None = None,
    origin: str | None = None,
    left_out: Iterable[str] = (),
) -> str:
    """The text of a card; see `write_model_card`.

    Args:
        name: of the release: a folder's, or `OWNER/NAME` of the Hub.
        release: what `release_facts` returned; without weights their hash is `None`.
        curves: link to the picture of the curves.
        superseded_by: name of the card next to this one whose run replaces this run; the weights of this one are not
            published, and nothing is said of loading them.
    """
    for key, values, allowed in (
        ("language", language or [], r"[a-z]{2,3}|multilingual|code"),
        ("license", [license] if license else [], r"[a-z0-9][a-z0-9.-]*"),
    ):
        for value in values:
            if not re.fullmatch(allowed, value):
                raise ValueError(f"{key} is {value!r}; allowed is an identifier of the Hub, as in en or apache-2.0")
    is_on_hub = "/" in name
    name = re.sub(r"[^\w./-]+", "-", name)
    tuned = [checked_record(record) for record in finetuning]
    unsure = check_weights(tuned, {release["weights_sha256"], also_weights} - {None})
    run = _checked_run(run)
    config = release["config"]
    objective = config.get(RTD_KEY, {}) if objective is None else objective
    objective_name = objective.get("objective", "rtd")
    objective_spec = OBJECTIVES[objective_name]
    results = [result for record in tuned for result in hub_results(record)]
    described = _described(run, config, release["generator_config"], objective)
    sources = {source: _repository_of(run, source) for source in _sources(run)}
    bases = [repository for repository in sources.values() if repository]
    metadata = ModelCardData(
        language=language,
        license=license,
        library_name="transformers",
        tags=["electra", objective_spec.hub_tag, "pretraining", config["model_type"], *tags],
        datasets=described["data"]["datasets"] or None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        base_model=bases or None,
        model_name=name.rpartition("/")[2] if results else None,
        eval_results=results or None,
    )
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["measured"] = measured
    template = (shipped_folder("model_cards", _TEMPLATE) / _TEMPLATE).read_text(encoding="utf-8")
    text = environment.from_string(template).render(
        name=name,
        is_on_hub=is_on_hub,
        metadata=metadata.to_yaml(),
        is_whole=config["architectures"] == ["ElectraForPreTraining"],
        # The recurrent family names the code of its models in any case.
        has_code="auto_map" in config and config["auto_map"] != AUTO_MAP,
        # As its classes are called.
        family=re.sub(r"(Model|ForPreTraining|ForMaskedLM)$", "", config["architectures"][0]),
        superseded_by=superseded_by,
        flags={
            role: ", trust_remote_code=True" if "AutoConfig" in (values or {}).get("auto_map", {}) else ""
            for role, values in (("encoder", config), ("generator", release["generator_config"]))
        },
        has_key=RTD_KEY in config,
        loop_over_tokens=_LOOPS["energy" if objective_spec.gives_energies else "probability"],
        objective=objective_name,
        predicts=objective_spec.has_masked_lm_head,
        kind=objective.get("generator_kind", "masked_lm") if objective_spec.corrupts else None,
        has_generator=generates_by_masked_lm(objective),
        reads_masks=generates_by_masked_lm(objective) or not objective_spec.corrupts,
        activation=config.get("hidden_act") or config.get("hidden_activation"),
        is_from_scratch=run.get("recipe", {}).get("model", {}).get("discriminator") is not None,
        origin=None if origin is None else bare(origin),
        left_out=[one_line(line) for line in left_out],
        bases=[
            (source if _HUB_NAME.fullmatch(source) else repository)
            if repository
            else f"a checkpoint on disk, {file_name(source)}"
            for source, repository in sources.items()
        ],
        table=markdown_table(tuned) if tuned else None,
        tuning=[tuning_row(record) for record in tuned],
        unsure=unsure,
        curves=curves,
        languages=language,
        license=license,
        **described,
    )
    found = _LEAK.search(text)
    if found:
        raise ValueError(f"the card would show {found[0]!r}; records may hold no absolute path or token there")
    return str(ModelCard(re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"))


def _described(
    run: dict[str, Any], config: dict[str, Any], generator: dict[str, Any], objective: dict[str, Any]
) -> dict[str, Any]:
    """What the template shows of the run and the two networks."""
    recipe, data = run.get("recipe") or {}, run.get("data") or {}
    resumed = run.get("resumed_from") is not None
    seconds = None if resumed else number(run, "training_seconds")
    tokens = number(run, "tokens_seen")
    hours = None if seconds is None else seconds / 3600
    size = number(data, "bytes")
    stream = recipe.get("data") or {}
    named = [name for name in dict.fromkeys([*(data.get("datasets") or []), stream.get("dataset")]) if name]
    datasets = [name for name in named if _from_hub(run, name)]
    texts = [name if name in datasets else file_name(name) for name in named]
    texts += map(file_name, data.get("files") or stream.get("corpus") or [])
    versions = run.get("versions") or {}
    stated = {key for key in _SIZES.values() if key in config or key in (generator or {})}
    # A recipe may leave the objective to the checkpoint that it continues from.
    recorded = {key: value for key, value in recipe.get("model", {}).items() if value is not None}
    known = recipe | {"model": objective | recorded}
    if "precision" in run:
        known["training"] = recipe.get("training", {}) | {"precision": run["precision"]["ran"]}
    settings = _DEFAULTS | known["model"] | known.get("training", {})
    return {
        "run": run,
        "resumed": resumed,
        "sizes": [
            {"name": name, "discriminator": number(config, key), "generator": number(generator, key)}
            for name, key in _SIZES.items()
            # A recurrent encoder has no heads; one whose config is missing has them, for all that is known.
            if key in stated or not stated
        ],
        "numbers": {
            "discriminator": number(run, "parameters", "discriminator"),
            "generator": number(run, "parameters", "generator_not_shared"),
            "epochs": number(run, "held_out", "epoch"),
            "tokens_per_second": tokens / seconds if tokens and seconds else None,
            "hours": hours,
            "evaluation_blocks": number(recipe, "training", "evaluation_blocks"),
            **{name: number(run, name) for name in ("tokens_seen", "steps", "cpu_cores", "processes")},
        },
        "data": {
            "datasets": datasets,
            "names": texts[:_NAMES],
            "more": len(texts) > _NAMES,
            "sources": number(data, "sources"),
            "megabytes": None if size is None else size / 1e6,
            "documents": number(data, "documents"),
            "tokens": number(data, "tokens"),
        },
        "recipe": {
            key: measured(value, "{:g}")
            for section in _RECIPE_FIELDS
            for key, value in _shown(section, recipe.get(section, {}), known.get(section, {})).items()
        },
        "is_packed": "data" in recipe,
        "mask_token_probability": settings["mask_token_probability"],
        "schedule": bare(settings["lr_scheduler_type"]),
        "warms_up_and_decays": settings["lr_scheduler_type"] in _DECAYING and settings["warmup_steps"] != 0,
        "held_out": {name: number(run, "held_out", f"eval_{name}") for name in _HELD_OUT},
        "device": run.get("device"),
        "software": ", ".join(f"{name} {version}" for name, version in versions.items()) or None,
        "version": bare(versions["electra-rtd"]) if "electra-rtd" in versions else None,
        "commit": run.get("commit"),
        "energy": energy(run.get("device"), hours, number(run, "processes")),
    }


def _shown(section: str, recorded: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """The settings that a card names: what the record says, and of others what is not the default.

    Args:
        section: of a recipe.
        recorded: what the recipe says there.
        known: the same, completed by what the release says.
    """
    shown = {key: recorded[key] for key in _RECIPE_FIELDS[section] if recorded.get(key) is not None}
    for key in _SELDOM_SET[section]:
        if key not in shown and known.get(key) is not None and known[key] != _DEFAULTS[key]:
            shown[key] = known[key]
    return shown


def _checked_run(run: dict[str, Any] | None) -> dict[str, Any]:
    if run is None:
        return {}
    recipe = run.get("recipe")
    sections = [*recipe.values()] if isinstance(recipe, dict) else [recipe]
    sections += [run[name] for name in ("held_out", "parameters", "data", "versions") if run.get(name) is not None]
    if not all(isinstance(section, dict) for section in sections):
        raise ValueError(f"this is no record of electra-rtd pretrain (run.json): {str(run)[:60]}")
    return run


def _sources(run: dict[str, Any]) -> list[str]:
    """The checkpoints that training continued from; none where it began with random weights."""
    model = run.get("recipe", {}).get("model", {})
    return [model[key] for key in ("discriminator_checkpoint", "generator_checkpoint") if model.get(key)]


def _repository_of(run: dict[str, Any], source: str) -> str | None:
    """The id in a name of the Hub; `None` for a folder."""
    try:
        repository = parse_hub_name(source).id
    except ValueError:
        return None
    return repository if _from_hub(run, repository) else None


def _from_hub(run: dict[str, Any], source: str) -> bool:
    is_id = _HUB_ID.fullmatch(source) is not None
    return is_id and (source in run["from_hub"] if "from_hub" in run else not Path(source).exists())
