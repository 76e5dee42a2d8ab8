"""How a text becomes ids: one way for pre-training, fine-tuning, and all that reads with a trained model.

A text stands between its own [CLS] and [SEP], as in the blocks of pre-training. What is written in a text is never one
of these, nor padding, nor a mask: control tokens in a text are text. Special tokens of a user's own are found whole.
"""

import copy
import json
import re
from typing import Any


# What the published vocabularies call these tokens, for folders that hold a vocabulary but do not say which is which.
CONVENTIONAL_TOKENS = {
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("[MASK]", "<mask>"),
}
# Begins the pattern that cuts control tokens in two.
CONTROL_CUT = "(?#control tokens)"
# What a class of tokenizers makes a template of when it is loaded, whatever its file says.
_TEMPLATE_SWITCHES = ("add_bos_token", "add_eos_token")


def control_tokens(tokenizer: Any) -> list[str]:
    """The special tokens that mean something to a model, each once: classifier, separator, padding, mask and so on."""
    named = [getattr(tokenizer, attribute, None) for attribute in (*CONVENTIONAL_TOKENS, "bos_token", "eos_token")]
    usual = {token for tokens in CONVENTIONAL_TOKENS.values() for token in tokens}
    return sorted({str(token) for token in named if token is not None} | usual & _special_tokens(tokenizer))


def own_special_tokens(tokenizer: Any) -> list[str]:
    """Special tokens that a user has added: they stand for something in texts."""
    return sorted(_special_tokens(tokenizer) - set(control_tokens(tokenizer)))


def text_backend(tokenizer: Any) -> str:
    """The backend tokenizer as JSON, with control tokens alone marked as special: with `encode_special_tokens` these
    are split like any text, and others are found whole."""
    backend = tokenizer.backend_tokenizer.to_str()
    description, own = json.loads(backend), set(own_special_tokens(tokenizer))
    changed = [token for token in description["added_tokens"] if token["special"] and token["content"] in own]
    for token in changed:
        token["special"] = False
    return json.dumps(description, ensure_ascii=False) if changed else backend


def complete(tokenizer: Any) -> list[str]:
    """Give a tokenizer what pre-training blocks have and it has not: [CLS] and [SEP] around a text, and no padding
    before one. It is saved so, and stock code reads texts alike.

    Args:
        tokenizer: a fast one, with a classifier and a separator token; changed in place.

    Returns:
        What was changed, a sentence each.
    """
    changes = []
    has_tokens = tokenizer.cls_token is not None and tokenizer.sep_token is not None
    if has_tokens and not _has_template(tokenizer):
        whole, pair = (" ".join(tokenizer(*texts).tokens()) for texts in ("a", "aa"))
        description = json.loads(tokenizer.backend_tokenizer.to_str())
        description["post_processor"] = _template(tokenizer, description["post_processor"])
        tokenizer._tokenizer = type(tokenizer.backend_tokenizer).from_str(json.dumps(description))
        for name in _TEMPLATE_SWITCHES:
            tokenizer.init_kwargs.pop(name, None)
        changes.append(
            f"it reads a text 'a' as {whole!r} and a pair as {pair!r}; {tokenizer.cls_token} and "
            f"{tokenizer.sep_token} around the texts, as pre-training has them, are added"
        )
    if tokenizer.padding_side != "right":
        tokenizer.padding_side = "right"
        changes.append(
            "it pads on the left; it pads on the right from now on, as positions count from the first token"
        )
    return changes


def text_encoder_of(tokenizer_class: Any, backend: str) -> Any:
    """A backend tokenizer that encodes texts: it neither truncates nor pads, whatever was saved with it, and gives
    what is written in a text no control token.

    Args:
        tokenizer_class: `tokenizers.Tokenizer`.
        backend: as `text_backend` makes it.
    """
    encoder = tokenizer_class.from_str(backend)
    encoder.no_truncation()
    encoder.no_padding()
    encoder.encode_special_tokens = True
    description = json.loads(backend)
    # A vocabulary may hold a control token as a piece, Unigram's as its most likely one: texts are cut within it.
    pieces = [
        re.escape(token["content"][0]) + f"(?={re.escape(token['content'][1:])})"
        for token in description["added_tokens"]
        if token["special"] and len(token["content"]) > 1 and _is_written(encoder, token)
    ]
    if not pieces:
        return encoder
    pattern = {"Regex": CONTROL_CUT + "|".join(pieces)}
    cut = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    steps = [step for step in (description["pre_tokenizer"], cut) if step is not None]
    description["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    encoder = tokenizer_class.from_str(json.dumps(description))
    encoder.no_truncation()
    encoder.no_padding()
    encoder.encode_special_tokens = True
    return encoder


def _is_written(encoder: Any, token: dict[str, Any]) -> bool:
    content = token["content"]
    texts = (content, f"a {content} a", f"a{content}a")
    return any(token["id"] in encoder.encode(text, add_special_tokens=False).ids for text in texts)


def reading_tokenizer(tokenizer: Any) -> Any:
    """A copy that encodes any text, pair or batch as pre-training does; to read with, not to be saved.

    Args:
        tokenizer: a fast one; stays as it is.
    """
    reader = copy.deepcopy(tokenizer)
    complete(reader)
    reader._tokenizer = text_encoder_of(type(reader.backend_tokenizer), text_backend(reader))
    reader.split_special_tokens = True
    return reader


def _special_tokens(tokenizer: Any) -> set[str]:
    added = tokenizer.added_tokens_decoder.values()
    return {*tokenizer.all_special_tokens, *(token.content for token in added if token.special)}


def _has_template(tokenizer: Any) -> bool:
    """Whether a text stands between classifier and separator, with one more separator, or two as in RoBERTa, between
    the texts of a pair."""
    cls, sep = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
    text = tokenizer("a", add_special_tokens=False)["input_ids"]
    pair = tokenizer("a", "a")["input_ids"]
    return tokenizer("a")["input_ids"] == cls + text + sep and pair in (
        [*cls, *text, *separators, *text, *sep] for separators in (sep, sep + sep)
    )


def _template(tokenizer: Any, before: dict[str, Any] | None) -> dict[str, Any]:
    """[CLS] A [SEP] and [CLS] A [SEP] B [SEP], with type 1 from B on, as JSON of `tokenizers`."""

    def special(token: str, type_id: int = 0) -> dict[str, Any]:
        return {"SpecialToken": {"id": token, "type_id": type_id}}

    cls, sep = str(tokenizer.cls_token), str(tokenizer.sep_token)
    first, second = ({"Sequence": {"id": name, "type_id": type_id}} for name, type_id in (("A", 0), ("B", 1)))
    ids = {cls: tokenizer.cls_token_id, sep: tokenizer.sep_token_id}
    template = {
        "type": "TemplateProcessing",
        "single": [special(cls), first, special(sep)],
        "pair": [special(cls), first, special(sep), second, special(sep, 1)],
        "special_tokens": {token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in ids},
    }
    steps = [] if before is None else before.get("processors", [before])
    # It adds no tokens, but sets where they begin and end in the text.
    kept = [step for step in steps if step["type"] == "ByteLevel"]
    return {"type": "Sequence", "processors": [*kept, template]} if kept else template
