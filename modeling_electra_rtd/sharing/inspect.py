"""What a pair sees in a text: the original, what the generator makes of it, and what the discriminator thinks."""

import dataclasses
import html
import string
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.text import Text
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data.tokenization import load_tokenizer
from ..model_reference import find_model, holds_pair
from ..modeling_electra_rtd import ElectraRtdForPreTraining
from ..pipeline_electra_rtd import ReplacedTokenDetectionPipeline, TokenizedText
from .pipeline_task import DiscriminatorLoader


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
    """A pair (joint checkpoint or release), or a lone discriminator, with its tokenizer.

    Args:
        model: any name that `find_model` takes.

    Raises:
        ValueError: for a model that cannot be loaded.
    """
    reference = find_model(model)
    model_class = ElectraRtdForPreTraining if holds_pair(reference) else DiscriminatorLoader
    return model_class.from_pretrained(reference.name, **reference.arguments).eval(), load_tokenizer(reference)


def inspect_text(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, seed: int = 0
) -> list[InspectedToken]:
    """Corrupt a text with the pair's own generator and judge every token; a lone discriminator judges it as it is.

    Text beyond the model's length is corrupted, and then judged, in the windows of the pipeline.

    Raises:
        ValueError: for a text without tokens, and a model without a discriminator.
    """
    # In bf16 the last digits shown would not be the model's own.
    pipeline = ReplacedTokenDetectionPipeline(model=model, tokenizer=tokenizer, device=model.device, bf16=False)
    original = pipeline.tokenize(text)
    if not isinstance(model, ElectraRtdForPreTraining):
        return judge(pipeline, original, original.ids, {})
    with torch.random.fork_rng(devices=[] if model.device.type == "cpu" else None):
        torch.manual_seed(seed)
        shown, generated = _corrupt(model, pipeline, original)
    return judge(pipeline, original, shown, generated)


def judge(
    pipeline: ReplacedTokenDetectionPipeline, original: TokenizedText, shown: list[int], generated: dict[int, float]
) -> list[InspectedToken]:
    """What the discriminator thinks of ids that stand in the place of a text's own.

    Args:
        shown: as many ids as the text has tokens.
        generated: P_g of what the generator put there, by position; for the positions it was asked for.
    """
    judged = pipeline(dataclasses.replace(original, ids=shown))
    names, shown_names = token_names(pipeline.tokenizer, original.ids), token_names(pipeline.tokenizer, shown)
    return [
        InspectedToken(
            original=names[i],
            shown=shown_names[i],
            is_chosen=i in generated,
            is_replaced=shown[i] != original.ids[i],
            generated_probability=generated.get(i),
            replaced_probability=judged[i]["probability"],
        )
        for i in range(len(shown))
    ]


@torch.no_grad()
def _corrupt(
    model: ElectraRtdForPreTraining, pipeline: ReplacedTokenDetectionPipeline, original: TokenizedText
) -> tuple[list[int], dict[int, float]]:
    """Ids for every token of a text, and P_g by position where the generator was asked."""
    shown: list[int] = []
    generated: dict[int, float] = {}
    for row in pipeline.preprocess(original):
        output = model(torch.tensor([row.ids], device=model.device))
        chosen = output.is_chosen[0, row.judged].tolist()
        probabilities = output.sampled_log_probs[0, row.judged].exp().tolist()
        generated |= {len(shown) + i: probabilities[i] for i in range(len(chosen)) if chosen[i]}
        shown += output.corrupted_input_ids[0, row.judged].tolist()
    return shown, generated


def token_names(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    """Tokens of the vocabulary; `[id 123]` for an id that has none."""
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


# Shades grow with the square root: few tokens are replaced, so most probabilities are small, and their differences
# count. A dark page turns the text of the strongest shades dark.
HEAT_STYLE = """
.heat{--hot:#f97316;--ink:#1c1917;--dim:#57534e;--line:#d6d3d1;display:flex;flex-wrap:wrap;gap:.5rem .25rem;
align-items:flex-end;margin:.5rem 0;padding:0;color:var(--ink);line-height:1.3;font-size:1.05rem}
.heat .token{display:inline-flex;flex-direction:column;align-items:center;gap:.15rem}
.heat .token.piece{margin-left:-.25rem}
.heat .token b{font-weight:400;padding:.2rem .4rem;border-radius:.35rem;white-space:pre;color:var(--ink);
background:color-mix(in srgb,var(--hot) var(--heat),transparent);border:2px solid transparent}
.heat .token.replaced b{border-color:currentColor;font-weight:600}
.heat .token.kept b{border:2px dashed var(--dim)}
.heat s,.heat i{font-size:.8rem;color:var(--dim);font-style:normal;white-space:pre}
.heat i{font-variant-numeric:tabular-nums;font-size:.75rem}
.scale{--hot:#f97316;--dim:#57534e;display:flex;flex-wrap:wrap;gap:.35rem 1.25rem;align-items:center;font-size:.85rem;
color:var(--dim);line-height:1.4;margin:.75rem 0 0}
.scale u{display:inline-flex;gap:.35rem;align-items:center;text-decoration:none}
.scale em{display:inline-block;width:2.4rem;text-align:center;border-radius:.25rem;font-style:normal;
color:#1c1917;background:color-mix(in srgb,var(--hot) var(--heat),transparent)}
.scale .box{width:1.1rem;height:1rem;border:2px solid;border-radius:.25rem}
.scale .dashed{border-style:dashed}
"""
# Said once for a page that is dark by a class, once for one that is dark because the reader's system is.
_DARK = """
{dark} .heat{{--ink:#f5f5f4;--dim:#b8b2ac;--line:#44403c}}
{dark} .heat .token.hot b{{color:#1c1917}}
{dark} .heat .token.replaced.hot b{{border-color:#f5f5f4}}
{dark} .scale{{--dim:#b8b2ac}}
{dark} .scale em.cool{{color:#f5f5f4}}
"""
_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Replaced tokens</title>
<meta name="viewport" content="width=device-width,initial-scale=1"><style>
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;background:#fff;color:#1c1917}
h1{font-size:1.4rem;margin:0 0 1rem}
$style
@media(prefers-color-scheme:dark){body{background:#16181d;color:#f5f5f4}$dark}
</style></head><body><h1>Replaced tokens</h1>
$tokens
</body></html>
"""


def dark_style(selector: str) -> str:
    """The rules of `HEAT_STYLE` for what lies below a selector of a dark page."""
    return _DARK.format(dark=selector)


def heat_map(tokens: list[InspectedToken]) -> str:
    """HTML of a text as a heat map of P_d, with its legend; `HEAT_STYLE` gives it its looks."""
    cells = []
    for token in tokens:
        is_piece = token.shown.startswith("##") and not token.is_replaced
        kinds = ["token"] + [
            kind
            for kind, holds in {
                "replaced": token.is_replaced,
                "kept": token.is_chosen and not token.is_replaced,
                "piece": is_piece,
                "hot": _heat(token.replaced_probability) > 0.75,
            }.items()
            if holds
        ]
        title = f"P_d {token.replaced_probability:.3f}"
        if token.generated_probability is not None:
            title += f", P_g {token.generated_probability:.3f}"
        original = f"<s>{_readable(token.original)}</s>" if token.is_replaced and token.original else ""
        cells.append(
            f'<span class="{" ".join(kinds)}" title="{title}">{original}'
            f'<b style="--heat:{_heat(token.replaced_probability):.1%}">{_readable(token.shown)}</b>'
            f"<i>{token.replaced_probability:.2f}</i></span>"
        )
    return f'<div class="heat">{"".join(cells)}</div>{_legend(tokens)}'


def _legend(tokens: list[InspectedToken]) -> str:
    steps = "".join(
        f'<em{"" if _heat(probability) > 0.75 else " class=cool"} style="--heat:{_heat(probability):.1%}">'
        f"{probability:g}</em>"
        for probability in (0, 0.02, 0.1, 0.3, 0.6, 1)
    )
    legend = f"<u>P(replaced), below each token {steps}</u>"
    if any(token.is_replaced for token in tokens):
        legend += '<u><span class="box"></span>replaced, the original above it</u>'
    if any(token.is_chosen and not token.is_replaced for token in tokens):
        legend += '<u><span class="box dashed"></span>masked, and the original came back</u>'
    return f'<div class="scale">{legend}</div>'


def _heat(probability: float) -> float:
    return probability**0.5


def _readable(token: str) -> str:
    """Marks of byte-level and SentencePiece vocabularies for a space are no part of what a reader reads."""
    return html.escape(token.removeprefix("\u0120").removeprefix("\u2581") or " ")


def render_html(tokens: list[InspectedToken], path: str) -> None:
    """Write a self-contained page with the text as a heat map of P_d."""
    parts = {"style": HEAT_STYLE, "dark": dark_style("body"), "tokens": heat_map(tokens)}
    Path(path).write_text(string.Template(_PAGE).substitute(parts), encoding="utf-8")
