"""The release of a pair: two stock checkpoints that need no code, and the code that makes a pair of them again."""

import math
from pathlib import Path
from typing import Any

import torch

from ..common.files import CURVES, RUN_RECORD, weights_hash
from ..common.new_folder import new_folder
from ..common.pairs import holds_pair
from ..common.references import check_repo_id, find_model
from ..data.tokenization import load_tokenizer
from ..model.modeling_electra_rtd import ElectraRtdForPreTraining
from .card import write_model_card
from .verify import probe_ids, stock_outputs
from .write import check_finite, write_release


def export(
    checkpoint: str,
    output_dir: str,
    run_record: str | Path | None = None,
    results: list[str] | None = None,
    language: list[str] | None = None,
    license: str | None = None,
    remote_code: bool = True,
    repo_id: str | None = None,
) -> dict[str, Any]:
    """Write a release and verify it in a fresh process with stock classes only.

    The root holds the discriminator (for ELECTRA an `ElectraForPreTraining`; for other families the encoder, with the
    detection head next to it under `discriminator_predictions.*`; for one that predicts tokens a masked-LM checkpoint)
    and `generator/` a masked-LM generator, each with the tokenizer. `README.md` is its model card.

    Args:
        checkpoint: any name that `find_model` takes.
        run_record: `run.json` of the pre-training; `None` takes the checkpoint's own where there is one.
        results: records of fine-tuning that began with this checkpoint or a release of it.
        language, license, repo_id: see `write_model_card`.
        remote_code: add the objective to the root's config and the files that `trust_remote_code=True` runs, which
            give back the pair; without it the release does not mention this package.

    Returns:
        For `root`, and what else there is of `generator`, `discriminator` (ELECTRA) and `masked LM`: the missing keys
        (none) and the sum of absolute outputs on a probe, equal to this model's.

    Raises:
        ValueError: for a model that holds no pair, weights that are not finite, an output folder that is taken,
            records that do not belong to it, or a `repo_id` that no repository can have.
    """
    if repo_id is not None:
        check_repo_id("--repo-id", repo_id)
    reference = find_model(checkpoint)
    if not holds_pair(reference):
        raise ValueError(f"{checkpoint} is not a joint checkpoint, nor a release with all it was trained with")
    tokenizer = load_tokenizer(reference)
    model = ElectraRtdForPreTraining.from_pretrained(reference.name, **reference.arguments).eval()
    check_finite(checkpoint, model.state_dict())
    if run_record is None:
        # The card looks for the curves next to the record.
        run_record, _ = reference.find(RUN_RECORD), reference.find(CURVES)
    with new_folder(output_dir) as folder:
        root = Path(folder)
        write_release(model, tokenizer, root, remote_code)
        report = verify_release(model, root)
        joint = weights_hash(reference.folder)
        objective = model.config.objective_fields()
        write_model_card(
            root, run_record, results or (), language, license, joint, repo_id=repo_id, objective=objective
        )
    return report


def verify_release(model: ElectraRtdForPreTraining, root: Path) -> dict[str, Any]:
    """What stock classes make of a release, in a fresh process; see `export`.

    Raises:
        ValueError: in one line, for a model whose own outputs are not finite: nothing can be compared with them.
        RuntimeError: for outputs that are not those of the model.
    """
    ids = torch.tensor(probe_ids(model.config.discriminator_config), device=model.device)
    with torch.no_grad():
        ours = {"root": model.encoder(ids).last_hidden_state}
        if model.config.has_masked_lm_generator:
            generator = model.generator
            assert generator is not None
            ours["generator"] = generator(ids).logits
        if model.config.objective_spec.has_masked_lm_head:
            predict = model.heads.predict
            assert predict is not None
            ours["masked LM"] = predict(ours["root"])
        if model.config.to_dict()["architectures"] == ["ElectraForPreTraining"]:
            ours["discriminator"] = model.discriminate(ids)
    sums = {name: value.double().abs().sum().item() for name, value in ours.items()}
    overflowed = [name for name, value in sums.items() if not math.isfinite(value)]
    if overflowed:
        raise ValueError(
            f"the outputs of the checkpoint are not finite ({', '.join(overflowed)}), though its weights are; take "
            "one from before its training diverged"
        )
    report = stock_outputs(root, predicts=model.config.objective_spec.has_masked_lm_head)
    for name, expected in sums.items():
        difference = abs(expected - report[name]["sum"])
        # Not `>`, which is false of NaN.
        if report[name]["missing"] or not difference <= 1e-5 * max(1.0, expected):
            raise RuntimeError(f"the release differs from the checkpoint: {name} {report[name]}, expected {expected}")
    return report
