"""Checkpoints of other code as releases of this package, and pairs as checkpoints of the original ELECTRA code."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoConfig, PreTrainedTokenizerBase
from transformers.utils import CONFIG_NAME, logging

from ..common.new_folder import new_folder
from ..common.pairs import holds_pair
from ..common.references import find_model
from ..data.tokenization import load_tokenizer
from ..model.configuration_electra_rtd import ElectraRtdConfig, special_tokens_of
from ..model.discriminator import ElectraRtdDiscriminator
from ..model.generators import ElectraRtdGenerator
from ..model.modeling_electra_rtd import ElectraRtdForPreTraining
from ..release.card import write_model_card
from ..release.export import verify_release
from ..release.write import check_finite, write_release
from .deberta_v3 import check_shapes, pair_configs, pair_states
from .original_electra import check_tokens, hyperparameters, original_variables, pair_config, read_pair
from .tensorflow_bundle import INDEX, TensorBundle, find_bundle, write_bundle


logger = logging.get_logger(__name__)

FORMATS = ("native", "original")
PREFIX, VOCABULARY, HYPERPARAMETERS = "model.ckpt-0", "vocab.txt", "hparams.json"
_DEBERTA = "deberta-v2"
_SAFETENSORS = ".safetensors"
# A pair, its tokenizer, and a line for everything that it has no place for.
_Read = tuple[ElectraRtdForPreTraining, PreTrainedTokenizerBase, list[str]]


@dataclass
class Conversion:
    """What came of a conversion.

    Attributes:
        networks: of a release, those that stock classes load with no missing keys and equal outputs.
        left_out: a line for everything in the source that has no place in the result.
    """

    networks: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def convert(
    source: str,
    output_dir: str,
    to: str = "native",
    tokenizer: str | None = None,
    attention_heads: int | None = None,
    generator_attention_heads: int | None = None,
) -> Conversion:
    """Write the pair of one code in the format of another.

    Args:
        source: for `native` a checkpoint of the original ELECTRA code (its prefix, or the folder), or a folder with
            both networks of a DeBERTaV3 release; for `original` any name of a pair that `find_model` takes.
        output_dir: a new or empty folder; gets everything or, after an error, nothing. For `native` it is a release as
            `export` writes it, verified in a process of its own; for `original` the variables with an optimizer at
            step 0, the vocabulary, and the hyperparameters that the original needs to build the networks.
        tokenizer: any name that `load_tokenizer` takes; `None` takes the source's own.
        attention_heads, generator_attention_heads: see `pair_config`.

    Raises:
        ValueError: in one line, if the source is not one of these, is damaged, or has no counterpart in the other
            format.
    """
    if to not in FORMATS:
        raise ValueError(f"--to is {to!r}; allowed: {', '.join(FORMATS)}")
    heads = {"attention_heads": attention_heads, "generator_attention_heads": generator_attention_heads}
    with new_folder(output_dir) as folder:
        if to == "original":
            _check_unused(heads, "a pair says itself how many it has")
            _write_original(source, tokenizer, Path(folder))
            return Conversion()
        model, vocabulary, left_out = _read(source, tokenizer, heads)
        write_release(model, vocabulary, folder)
        report = verify_release(model, Path(folder))
        is_deberta = model.config.discriminator_config.model_type == _DEBERTA
        code = "a DeBERTaV3 pair" if is_deberta else "a checkpoint of the original ELECTRA code (TensorFlow 1)"
        name = os.path.basename(os.path.abspath(source))
        write_model_card(folder, origin=f"{name}, {code}", left_out=left_out)
    return Conversion(list(report), left_out)


def _read(source: str, tokenizer: str | None, heads: dict[str, int | None]) -> _Read:
    prefix = find_bundle(source)
    if prefix is not None:
        return _read_original(prefix, tokenizer or os.path.dirname(prefix) or ".", heads)
    if Path(source, CONFIG_NAME).is_file() and AutoConfig.from_pretrained(source).model_type == _DEBERTA:
        _check_unused(heads, "a DeBERTa's config says how many it has")
        return _read_deberta(Path(source), tokenizer)
    raise ValueError(
        f"{source} is neither an original ELECTRA checkpoint (PREFIX{INDEX} next to PREFIX.data-*) nor a folder with "
        f"a DeBERTaV3 pair ({CONFIG_NAME} of {_DEBERTA}, next to the weights of both networks)"
    )


def _check_unused(heads: dict[str, int | None], reason: str) -> None:
    for name, value in heads.items():
        if value is not None:
            raise ValueError(f"--{name.replace('_', '-')} is {value}, but {reason}")


def _read_original(prefix: str, tokenizer: str, heads: dict[str, int | None]) -> _Read:
    bundle = TensorBundle(prefix)
    vocabulary = load_tokenizer(tokenizer)
    config = pair_config({name: entry.shape for name, entry in bundle.entries.items()}, vocabulary, **heads)
    vocabulary.model_max_length = config.max_position_embeddings
    model, left_out = read_pair(bundle, config)
    return model, vocabulary, left_out


def _write_original(source: str, tokenizer: str | None, folder: Path) -> None:
    reference = find_model(source)
    if not holds_pair(reference):
        raise ValueError(f"{source} is not a joint checkpoint, nor a release with its generator")
    vocabulary = load_tokenizer(tokenizer or reference)
    words = _word_pieces(vocabulary)
    normalizer = json.loads(vocabulary.backend_tokenizer.to_str())["normalizer"] or {}
    if normalizer.get("lowercase") and normalizer.get("strip_accents") is False:
        logger.warning(
            "the original code strips accents wherever it lower-cases; the tokenizer of this pair keeps them"
        )
    model = ElectraRtdForPreTraining.from_pretrained(reference.name, **reference.arguments)
    check_tokens(vocabulary, model.config.vocab_size)
    for name, value in special_tokens_of(vocabulary).items():
        if getattr(model.config, name) not in (None, value):
            raise ValueError(
                f"the tokenizer's {name} is {value}, but the pair was trained with {getattr(model.config, name)}; "
                "name the vocabulary it was trained with by --tokenizer"
            )
    check_finite(source, model.state_dict())
    write_bundle(folder / PREFIX, original_variables(model))
    _check_written(folder / PREFIX, model)
    (folder / VOCABULARY).write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    values = json.dumps(hyperparameters(model.config), indent=2)
    (folder / HYPERPARAMETERS).write_text(values + "\n", encoding="utf-8")


def _check_written(prefix: Path, model: ElectraRtdForPreTraining) -> None:
    config: Any = model.config
    written, _ = read_pair(TensorBundle(prefix), config)
    for name, value in written.state_dict().items():
        if not torch.equal(value, model.state_dict()[name].float()):
            raise RuntimeError(f"{prefix} differs from the pair: {name}")


def _word_pieces(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The lines of a `vocab.txt`.

    Raises:
        ValueError: for a tokenizer that the original code does not have.
    """
    kind = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["type"]
    words = tokenizer.get_vocab()
    if kind != "WordPiece" or sorted(words.values()) != list(range(len(words))):
        raise ValueError(f"the original code reads WordPiece vocabularies without gaps; this tokenizer is {kind}")
    fixed = {"[CLS]": tokenizer.cls_token_id, "[SEP]": tokenizer.sep_token_id, "[MASK]": tokenizer.mask_token_id}
    for token, token_id in fixed.items():
        if words.get(token) != token_id:
            raise ValueError(f"the original code looks for {token}, which this tokenizer calls otherwise")
    if tokenizer.pad_token_id:
        raise ValueError(f"the original code pads with id 0, this tokenizer with {tokenizer.pad_token_id}")
    return sorted(words, key=words.__getitem__)


def _read_deberta(folder: Path, tokenizer: str | None) -> _Read:
    discriminator, generator = (_published_weights(folder, role) for role in ("discriminator", "generator"))
    config, generator_config = pair_configs(AutoConfig.from_pretrained(folder), generator)
    first, second, left_out = pair_states(discriminator, generator, config)
    vocabulary = load_tokenizer(tokenizer or str(folder))
    check_tokens(vocabulary, config.vocab_size)
    pair = ElectraRtdConfig(discriminator_config=config, generator_config=generator_config, embedding_sharing="none")
    # A head that is not published is random, and the same at every conversion.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = (ElectraRtdDiscriminator(pair), ElectraRtdGenerator(generator_config))
    for role, network, state in zip(("discriminator", "generator"), networks, (first, second), strict=True):
        expected = {name: weight.shape for name, weight in network.state_dict().items()}
        unexpected = sorted(state.keys() - expected.keys())
        if unexpected:
            raise ValueError(f"{folder} is no DeBERTaV3 pair: the {role} has {', '.join(unexpected[:8])}")
        head = {name for name in expected if name.startswith("discriminator_predictions.")} - state.keys()
        check_shapes(role, state, {name: shape for name, shape in expected.items() if name not in head})
        network.load_state_dict(state, strict=False)
    # As they were trained: the discriminator's words are the generator's and a difference.
    model = ElectraRtdForPreTraining.from_pair(*networks, tokenizer=vocabulary, embedding_sharing="gdes")
    return model.eval(), vocabulary, left_out


def _published_weights(folder: Path, role: str) -> dict[str, torch.Tensor]:
    """The weights of one network; the generator is the file that says so in its name."""

    def files(suffix: str) -> list[Path]:
        return sorted(
            path for path in folder.glob("*" + suffix) if ("generator" in path.name) == (role == "generator")
        )

    found, pickles = files(_SAFETENSORS), files(".bin")
    if len(found) != 1:
        how = ""
        if pickles and not found:
            how = (
                f'; {pickles[0].name} is a pickle, which is not opened here. Where you trust it: python -c "import '
                "torch, safetensors.torch as s; s.save_file({k: v.clone() for k, v in "
                f"torch.load('{pickles[0].name}', weights_only=True).items()}}, "
                f"'{pickles[0].stem}{_SAFETENSORS}')\""
            )
        raise ValueError(f"{folder} holds {len(found)} files *{_SAFETENSORS} of the {role}, it must be one{how}")
    try:
        weights = load_file(found[0])
    except SafetensorError as error:
        raise ValueError(f"{found[0]} cannot be read: {error}") from error
    check_finite(str(found[0]), weights)
    return weights
