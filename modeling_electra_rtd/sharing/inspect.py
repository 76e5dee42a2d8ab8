"""What a pair sees in a text: the original, what the generator makes of it, and what the discriminator thinks."""

import html
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.text import Text
from transformers import PreTrainedTokenizerBase

from ..configuration_electra_rtd import holds_pair
from ..data.tokenization import load_tokenizer
from ..modeling_electra_rtd import ElectraRtdDiscriminator, ElectraRtdForPreTraining


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


def load_for_inspection(
    model: str,
) -> tuple[ElectraRtdForPreTraining | ElectraRtdDiscriminator, PreTrainedTokenizerBase]:
    """A joint checkpoint, or a lone discriminator, from a folder or the Hub, with its tokenizer."""
    tokenizer = load_tokenizer(model)
    joint = not os.path.isdir(model) or holds_pair(model)
    model_class = ElectraRtdForPreTraining if joint else ElectraRtdDiscriminator
    return model_class.from_pretrained(model).eval(), tokenizer


@torch.no_grad()
def inspect_text(
    model: ElectraRtdForPreTraining | ElectraRtdDiscriminator,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    seed: int = 0,
) -> list[InspectedToken]:
    """Corrupt a text with the pair's own generator and judge every token; a lone discriminator judges it as it is.

    Text beyond the model's length is judged in windows.

    Raises:
        ValueError: for a text without tokens.
    """
    window = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", 512), 512)
    windows = tokenizer(text, truncation=True, max_length=window, return_overflowing_tokens=True)["input_ids"]
    if len(windows[0]) == tokenizer.num_special_tokens_to_add():
        raise ValueError(f"the text {text!r} has no tokens")
    inspected: list[InspectedToken] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for piece in windows:
            inspected += _inspect_window(model, tokenizer, torch.tensor([piece], device=model.device))
    return inspected


def _inspect_window(
    model: ElectraRtdForPreTraining | ElectraRtdDiscriminator,
    tokenizer: PreTrainedTokenizerBase,
    input_ids: torch.Tensor,
) -> list[InspectedToken]:
    original = _names(tokenizer, input_ids)
    if isinstance(model, ElectraRtdForPreTraining):
        output = model(input_ids)
        shown = _names(tokenizer, output.corrupted_input_ids)
        chosen, replaced = output.is_chosen[0].tolist(), output.is_replaced[0].tolist()
        generated = output.sampled_log_probs[0].exp().tolist()
        judged = output.replaced_probs[0].tolist()
    else:
        shown, judged = original, model(input_ids).logits[0].float().sigmoid().tolist()
        chosen = replaced = [False] * len(original)
        generated = [1.0] * len(original)
    return [
        InspectedToken(original[i], shown[i], chosen[i], replaced[i], generated[i] if chosen[i] else None, judged[i])
        for i in range(len(original))
        if original[i] not in tokenizer.all_special_tokens or original[i] == tokenizer.unk_token
    ]


def _names(tokenizer: PreTrainedTokenizerBase, ids: torch.Tensor) -> list[str]:
    # A vocabulary rounded up for speed has rows without a token, and an untrained generator samples them too.
    row = ids[0].tolist()
    names = tokenizer.convert_ids_to_tokens(row)
    return [f"[id {i}]" if name is None else name for i, name in zip(row, names, strict=True)]


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
