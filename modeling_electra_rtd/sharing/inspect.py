"""What a pair sees in a text: the original, what the generator makes of it, and what the discriminator thinks."""

import dataclasses
import html
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.text import Text
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data.tokenization import load_tokenizer
from ..model_reference import find_model, holds_pair
from ..modeling_electra_rtd import ElectraRtdForPreTraining
from .pipeline import DiscriminatorLoader, ReplacedTokenDetectionPipeline, TokenizedText


@dataclass(frozen=True)
class InspectedToken:
    """One position of a text.

    Attributes:
        original: the token of the text.
        shown: the token the discriminator read.
        is_chosen: whether the generator was asked for it.
        is_replaced: whether it differs from the original.
        generated_probability: P_g, the generator's probability of what it put there; `None` where not asked.
        replaced_probability: P_d, the discriminator's probability that the token was replaced.
    """

    original: str
    shown: str
    is_chosen: bool
    is_replaced: bool
    generated_probability: float | None
    replaced_probability: float


def load_for_inspection(model: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A joint checkpoint, or a lone discriminator, with its tokenizer.

    Args:
        model: any name that `find_model` takes.

    Raises:
        ValueError: for a model that cannot be loaded.
    """
    reference = find_model(model)
    model_class = ElectraRtdForPreTraining if holds_pair(reference) else DiscriminatorLoader
    return model_class.from_pretrained(reference.name, **reference.arguments).eval(), load_tokenizer(reference)


@torch.no_grad()
def inspect_text(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, seed: int = 0
) -> list[InspectedToken]:
    """Corrupt a text with the pair's own generator and judge every token; a lone discriminator judges it as it is.

    Text beyond the model's length is corrupted, and then judged, in the windows of the pipeline.

    Raises:
        ValueError: for a text without tokens, and a model without a discriminator.
    """
    pipeline = ReplacedTokenDetectionPipeline(model=model, tokenizer=tokenizer, device=model.device)
    original = pipeline.tokenize(text)
    count = len(original.ids)
    shown, chosen, generated = original.ids, [False] * count, [0.0] * count
    # The loader of a pipeline draws from the caller's generator as well.
    with torch.random.fork_rng(devices=[] if model.device.type == "cpu" else None):
        torch.manual_seed(seed)
        if isinstance(model, ElectraRtdForPreTraining):
            shown, chosen, generated = _corrupt(model, pipeline, original)
        judged = pipeline(dataclasses.replace(original, ids=shown))
    names, shown_names = _names(tokenizer, original.ids), _names(tokenizer, shown)
    return [
        InspectedToken(
            original=names[i],
            shown=shown_names[i],
            is_chosen=chosen[i],
            is_replaced=shown[i] != original.ids[i],
            generated_probability=generated[i] if chosen[i] else None,
            replaced_probability=judged[i]["probability"],
        )
        for i in range(count)
    ]


def _corrupt(
    model: ElectraRtdForPreTraining, pipeline: ReplacedTokenDetectionPipeline, original: TokenizedText
) -> tuple[list[int], list[bool], list[float]]:
    """Ids, whether the generator was asked for them, and P_g, for every token of a text."""
    shown: list[int] = []
    chosen: list[bool] = []
    generated: list[float] = []
    for row in pipeline.preprocess(original):
        output = model(row["input_ids"].to(model.device))
        judged = row["judged"]
        shown += output.corrupted_input_ids[0, judged].tolist()
        chosen += output.is_chosen[0, judged].tolist()
        generated += output.sampled_log_probs[0, judged].exp().tolist()
    return shown, chosen, generated


def _names(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    # A vocabulary rounded up for speed has rows without a token, and an untrained generator samples them too.
    names = tokenizer.convert_ids_to_tokens(ids)
    return [f"[id {i}]" if name is None else name for i, name in zip(ids, names, strict=True)]


def render_terminal(tokens: list[InspectedToken], console: Console, threshold: float = 0.5) -> None:
    """Print the corrupted text in colour, then every chosen or suspected token with its probabilities.

    Replacements stand as `original→generated`; red is a replaced token found, yellow one missed, magenta a false
    alarm.
    """
    line = Text()
    for token in tokens:
        found = token.replaced_probability > threshold
        style = {(True, True): "bold red", (True, False): "bold yellow", (False, True): "magenta"}.get(
            (token.is_replaced, found), ""
        )
        word = token.shown if not token.is_replaced else f"{token.original}→{token.shown}"
        joined = word.startswith("##") and not token.is_replaced
        line.append(("" if joined or not line else " ") + (word[2:] if joined else word), style=style)
    console.print(line, soft_wrap=True)
    for token in tokens:
        if token.is_chosen or token.replaced_probability > threshold:
            generated = "      " if token.generated_probability is None else f"{token.generated_probability:6.3f}"
            console.print(
                f"  {token.original:>16} → {token.shown:<16} P_g {generated}   P_d {token.replaced_probability:6.3f}",
                highlight=False,
                markup=False,
            )


_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Replaced tokens</title><style>
body{{font:18px/2.6 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}}
.t{{display:inline-block;padding:0 .18em;margin:0 .06em;border-radius:.25em;line-height:1.5}}
.r{{outline:2px solid #333}} s{{color:#666;font-size:.75em;margin-right:.25em}} small{{color:#555}}
</style></head><body><h1>Replaced tokens</h1><p>{tokens}</p>
<p><small>Shade: the discriminator's probability that a token was replaced. Outlined: it was; the original is struck
through. Point at a token for its probabilities.</small></p></body></html>
"""


def render_html(tokens: list[InspectedToken], path: str) -> None:
    """Write a self-contained page with the text as a heat map of P_d."""
    cells = []
    for token in tokens:
        title = f"P_d {token.replaced_probability:.3f}"
        if token.generated_probability is not None:
            title += f", P_g {token.generated_probability:.3f}"
        original = f"<s>{html.escape(token.original)}</s>" if token.is_replaced else ""
        style = f"background:rgba(214,40,40,{token.replaced_probability:.3f})"
        cells.append(
            f'<span class="t{" r" if token.is_replaced else ""}" style="{style}" title="{title}">'
            f"{original}{html.escape(token.shown)}</span>"
        )
    Path(path).write_text(_PAGE.format(tokens=" ".join(cells)), encoding="utf-8")
