"""The plan of a run: parameters, FLOPs, memory, hours and money, before any of them is spent."""

import copy
import os
import sys
from typing import Any

import torch
from transformers import PreTrainedConfig

from ..common.files import NOT_MEASURED
from ..common.machine import environment
from ..common.pairs import holds_pair
from ..common.references import ModelReference
from ..data.blocks import MANIFEST, TOKENIZER, read_manifest
from ..data.tokenization import load_tokenizer
from ..model.backbones import config_from
from ..model.checkpoint_layout import native_config
from ..model.composition import continued_config
from ..model.configuration_electra_rtd import ElectraRtdConfig, special_tokens_of
from ..model.corruption import slots_per_row
from ..model.modeling_electra_rtd import ElectraRtdForPreTraining
from ..model.rules import check_rows
from .building import pair_config, pair_config_of
from .calibration import Calibration, Rates, calibrate, load_calibration
from .recipes import Recipe, model_config
from .run import row_length
from .schedules import StepShape
from .step_cost import DISCRIMINATOR, GENERATOR, OPTIMIZER, StepCost, count_run, count_step


def plan(
    recipe: Recipe,
    vocab_size: int | None = None,
    device: str | None = None,
    calibration_file: str | None = None,
    price_per_hour: float | None = None,
) -> dict[str, Any]:
    """What a recipe will take, on one device; evaluations and checkpoints are left out.

    Args:
        vocab_size: number of tokens, where the recipe names no tokenizer and no blocks that exist.
        device: `cpu`, `cuda`, or a name for a GPU that is elsewhere; `None` for this machine, or the calibration's.
        calibration_file: of the machine that the run will be on; `None` measures this one in some seconds, unless
            `device` is another.
        price_per_hour: of the device, in any currency.

    Returns:
        Numbers by name; what nothing was measured for is `None`.

    Raises:
        ValueError: for sizes that are not known, or that do not go together.
    """
    arguments = recipe.training
    if price_per_hour is not None and price_per_hour < 0:
        raise ValueError(f"price_per_hour is {price_per_hour}; it must not be negative")
    here = "cuda" if torch.cuda.is_available() else "cpu"
    calibration = None if calibration_file is None else load_calibration(calibration_file)
    device = device or (here if calibration is None else calibration.device_type)
    device_type = "cpu" if device == "cpu" else "cuda"
    if calibration is not None and calibration.device_type != device_type:
        raise ValueError(f"device is {device}, but {calibration_file} was measured on a {calibration.device_type}")
    config, length = planned_config(recipe, vocab_size)
    steps = planned_steps(recipe)
    precision, chosen_by = _planned_precision(recipe, calibration, device == here)
    arguments = copy.copy(arguments)
    arguments.precision, arguments.bf16 = precision, precision == "bf16"
    full = StepShape(arguments.gradient_accumulation_steps, arguments.train_batch_size, length)
    cost = count_step(lambda: ElectraRtdForPreTraining(config), arguments, length, device_type)
    run = count_run(
        lambda: ElectraRtdForPreTraining(config), arguments, length, device_type, steps, known={full: cost}
    )
    if calibration is None and device == here:
        print(f"measuring this machine ({precision}), some seconds ...", file=sys.stderr)
        calibration = calibrate([precision], compiled=False)
    rows = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps
    step_flops = cost.flops()
    return {
        "device": device if calibration is None else calibration.environment["device"],
        "precision": precision,
        "precision_chosen_by": chosen_by,
        "length": length,
        "vocab_size": config.vocab_size,
        "chosen_positions_per_row": slots_per_row(length, config.mask_probability),
        "rows_per_step": rows,
        "tokens_per_step": rows * length,
        "steps": steps,
        "tokens": sum(count * shape.positions for count, shape, _ in run),
        "parameters": cost.parameters,
        "flops_per_step": {
            "total": step_flops,
            **{part: cost.flops(part) for part in (GENERATOR, DISCRIMINATOR, OPTIMIZER)},
        },
        "flops": sum(count * of_shape.flops() for count, _, of_shape in run),
        "generator_share": cost.flops(GENERATOR) / step_flops,
        "live_bytes": {**vars(cost.memory), "workspace": cost.memory.workspace},
        **_measured(calibration, precision, cost, recipe, run, rows * length, price_per_hour),
        "calibrated_on": None if calibration is None else calibration.environment,
        "environment": environment(),
    }


def _planned_precision(recipe: Recipe, calibration: Calibration | None, is_here: bool) -> tuple[str, str]:
    """The precision that a run will have there, and what chose it."""
    asked = recipe.values["training"]
    if asked.get("precision") != "auto" or asked.get("bf16") is not None or asked.get("fp16"):
        return recipe.training.precision, "the recipe"
    if calibration is not None:
        return calibration.faster_precision, "the calibration"
    # The arguments have measured this machine when they were made.
    return (recipe.training.precision, "a measurement") if is_here else ("bf16", "assumption, not measured there")


def _measured(
    calibration: Calibration | None,
    precision: str,
    cost: StepCost,
    recipe: Recipe,
    run: list[tuple[int, StepShape, StepCost]],
    tokens_per_step: int,
    price_per_hour: float | None,
) -> dict[str, Any]:
    """Predict what depends on the speed of a machine, from the cost of a full step and of all steps of the run."""
    rates: Rates | None = None if calibration is None else calibration.rates.get(precision)
    # A machine without a compiler has no rates of compiled steps.
    compiled = recipe.training.torch_compile and rates is not None and rates.compiled_share is not None
    values: dict[str, Any] = dict.fromkeys(("seconds_per_step", "tokens_per_second", "hours", "price", "peak_bytes"))
    values["compiled"] = compiled
    if rates is not None:
        seconds = rates.seconds(cost, compiled)
        values["seconds_per_step"] = seconds
        values["tokens_per_second"] = tokens_per_step / seconds
        values["hours"] = sum(count * rates.seconds(of_shape, compiled) for count, _, of_shape in run) / 3600
        values["price"] = None if price_per_hour is None else price_per_hour * values["hours"]
        values["peak_bytes"] = round(rates.resident(cost, compiled))
    return values


def planned_config(recipe: Recipe, vocab_size: int | None = None) -> tuple[ElectraRtdConfig, int]:
    """The pair's configuration and the positions of a row, from as little data as there is.

    Raises:
        ValueError: if neither a tokenizer, nor blocks, nor a size of the vocabulary is at hand; for rows that the
            encoder has no positions for.
    """
    data, model = recipe.data, recipe.model
    prepared = data.blocks or data.validation_blocks
    if prepared is not None and not os.path.isfile(os.path.join(prepared, MANIFEST)):
        prepared = None
    length = row_length(data, prepared)
    source = data.tokenizer or (os.path.join(prepared, TOKENIZER) if prepared else None)
    checkpoints = model.checkpoints()
    first, second = (checkpoints.get(f"{role}_checkpoint") for role in ("discriminator", "generator"))
    generator = None if second is None else _masked_lm_config(second)
    if first is not None:
        config = _continued_config(recipe, first, generator)
    elif source is not None and vocab_size is None:
        config = pair_config(model, load_tokenizer(source), generator)
    else:
        if vocab_size is None and generator is not None:
            vocab_size = generator.vocab_size
        stated = isinstance(model.discriminator, str) or "vocab_size" in model.discriminator
        size = model_config(model.discriminator).vocab_size if vocab_size is None and stated else vocab_size
        if size is None:
            raise ValueError(
                "the size of the vocabulary is not known without data; give --blocks, --tokenizer or --vocab-size"
            )
        if size < 3:
            raise ValueError(f"vocab_size is {size}; it must be at least 3")
        # Which tokens are special changes no cost.
        special = {"mask_token_id": 1, "special_token_ids": [0, 1]}
        token_ids = dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0)
        # Where a stock class knows padding by its id, it is this one.
        token_ids["pad_token_id"] = 1
        config = pair_config_of(model, size, token_ids, special, generator)
    check_rows(config, length)
    return config, length


def _continued_config(recipe: Recipe, first: ModelReference, generator: PreTrainedConfig | None) -> ElectraRtdConfig:
    """Compose the config of the pair that `from_pair` would load, from the configs of its checkpoints alone."""
    objective = recipe.model.objective_fields()
    sharing = objective.pop("embedding_sharing", None)
    if generator is not None and sharing is None:
        # Whether two tables are equal is known when they are loaded; two are the dearer case.
        sharing = "none"
    tokenizer = recipe.data.tokenizer
    special = {"mask_token_id": 1, "special_token_ids": [0, 1]}
    return continued_config(
        _pair_in(first) or native_config(config_from(first.name, **first.arguments)),
        generator,
        embedding_sharing=sharing,
        generator_width=recipe.model.generator_width,
        generator_depth=recipe.model.generator_depth,
        special_tokens=special if tokenizer is None else special_tokens_of(load_tokenizer(tokenizer)),
        attn_implementation=recipe.model.attn_implementation,
        objective=objective,
    )


def _masked_lm_config(reference: ModelReference) -> PreTrainedConfig:
    """The config of the generator in a pair, or of a masked-LM model."""
    pair = _pair_in(reference)
    if pair is not None and pair.has_masked_lm_generator:
        return pair.generator_config
    return native_config(config_from(reference.name, **reference.arguments))


def _pair_in(reference: ModelReference) -> ElectraRtdConfig | None:
    return ElectraRtdConfig.from_pretrained(reference.name, **reference.arguments) if holds_pair(reference) else None


def planned_steps(recipe: Recipe) -> int:
    """Optimizer steps of a run.

    Raises:
        ValueError: if they depend on blocks that are not there.
    """
    arguments = recipe.training
    if arguments.max_steps > 0:
        return arguments.max_steps
    blocks = recipe.data.blocks
    if blocks is None or not os.path.isfile(os.path.join(blocks, MANIFEST)):
        raise ValueError("max_steps is not set, and there are no blocks to count; give --max-steps or --blocks")
    count = read_manifest(blocks)["splits"]["train"]["blocks"]
    per_epoch = count // arguments.per_device_train_batch_size // arguments.gradient_accumulation_steps
    if not per_epoch:
        raise ValueError(f"{count} training blocks do not fill one step; lower per_device_train_batch_size")
    return round(per_epoch * arguments.num_train_epochs)


def plan_rows(values: dict[str, Any]) -> list[tuple[str, str]]:
    """A plan for people: names and what stands next to them."""
    flops, memory = values["flops_per_step"], values["live_bytes"]
    own = values["parameters"]
    peak, hours = values["peak_bytes"], values["hours"]
    how = "compiled" if values["compiled"] else "not compiled"

    def megabytes(count: float) -> str:
        return f"{count / 1e6:,.0f} MB"

    rows = [
        ("device", f"{values['device']}, {values['precision']} (by {values['precision_chosen_by']})"),
        ("parameters, discriminator and what is shared", f"{own[DISCRIMINATOR]:,}"),
        ("parameters, generator alone", f"{own[GENERATOR]:,}"),
        ("vocabulary", f"{values['vocab_size']:,}"),
        ("step", f"{values['rows_per_step']:,} rows of {values['length']:,}, {values['tokens_per_step']:,} tokens"),
        ("chosen positions a row", f"{values['chosen_positions_per_row']}"),
        ("run", f"{values['steps']:,} steps, {values['tokens']:,} tokens"),
        ("FLOPs of a step", f"{flops['total']:.4g}"),
        ("  generator", f"{flops[GENERATOR]:.4g} ({values['generator_share']:.1%})"),
        ("  discriminator", f"{flops[DISCRIMINATOR]:.4g}"),
        ("  optimizer", f"{flops[OPTIMIZER]:.4g}"),
        ("FLOPs of the run", f"{values['flops']:.4g}"),
        ("live tensors at the peak", megabytes(memory["peak"])),
        *((f"  {name}", megabytes(memory[name])) for name in ("weights", "optimizer", "activations", "workspace")),
        ("  gradients, after the backward pass", megabytes(memory["gradients"])),
        ("memory of the process, above libraries", NOT_MEASURED if peak is None else f"{megabytes(peak)}, {how}"),
    ]
    if hours is None:
        rows.append(("time", f"{NOT_MEASURED}; --calibration FILE, from electra-rtd plan --calibrate FILE there"))
        return rows
    rows += [
        ("a step", f"{values['seconds_per_step']:.3f} s, {how}"),
        ("tokens a second", f"{values['tokens_per_second']:,.0f}"),
        ("hours, without evaluation", f"{hours:,.2f}"),
    ]
    if values["price"] is not None:
        rows.append(("price", f"{values['price']:,.2f}"))
    return rows
