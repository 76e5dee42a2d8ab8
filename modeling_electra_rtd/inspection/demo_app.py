"""The demo as a Gradio page: the same on this machine (`electra-rtd demo`) and as a Space."""

import html
import os
from typing import Any

from ..model.pipeline_electra_rtd import ReplacedTokenDetectionPipeline
from .demo import (
    Generated,
    ProposedToken,
    draw_positions,
    generate,
    has_generator,
    tokens_of,
    verdicts,
    verdicts_on_edit,
)
from .views import HEAT_STYLE, dark_style, heat_map


EXAMPLE = "The earth moves around the sun once a year, and the moon moves around the earth once a month."
EDITED_EXAMPLE = "The earth moves around the sun once a year, and the lawyer moves around the earth once a month."
# The seed of the first positions: it draws words worth a look.
_FIRST_SEED = 27
_WHAT = (
    "A generator fills the masked tokens of a sentence; a discriminator then says for every token how likely it is to "
    "be a replacement."
)
_LONE = (
    "This checkpoint has no generator, so there is nothing to propose: write a text, or change one, and see what the "
    "discriminator makes of it."
)
_STYLE = f"""
.gradio-container {{max-width: 62rem !important; margin: 0 auto !important}}
{HEAT_STYLE}
{dark_style(".dark")}
#positions .wrap {{gap: .3rem}}
#positions label {{padding: .2rem .5rem; border-radius: .4rem; font-size: 1rem}}
#positions label.selected {{background: #1d4ed8; border-color: #1d4ed8; color: #fff}}
#positions label span {{margin: 0}}
#positions label.selected span {{color: #fff}}
#positions input {{position: absolute; opacity: 0; pointer-events: none}}
#positions label:focus-within {{outline: 2px solid var(--body-text-color)}}
.proposals {{--bar: #3b82f633; --dim: #57534e; display: grid; gap: .75rem; margin: .5rem 0;
grid-template-columns: repeat(auto-fill, minmax(13.5rem, 1fr)); font-size: .95rem; line-height: 1.4}}
.dark .proposals {{--bar: #3b82f655; --dim: #b8b2ac}}
.proposals section {{border: 1px solid var(--border-color-primary); border-radius: .5rem; padding: .6rem .7rem}}
.proposals h4 {{margin: 0 0 .35rem; font-size: .95rem; font-weight: 600; color: var(--body-text-color)}}
.proposals p {{display: flex; justify-content: space-between; gap: .5rem; margin: 0 0 .15rem; padding: .1rem .4rem;
border-radius: .25rem; color: var(--body-text-color);
background: linear-gradient(to right, var(--bar) var(--width), transparent var(--width))}}
.proposals p.drawn {{font-weight: 600; box-shadow: inset 0 0 0 2px var(--body-text-color)}}
.proposals p small {{color: var(--dim); font-size: .72rem; font-weight: 400; margin-left: .3rem;
display: inline-block}}
.proposals p span:last-child {{font-variant-numeric: tabular-nums}}
"""


def build_app(detector: ReplacedTokenDetectionPipeline, name: str) -> Any:
    """The page, a `gradio.Blocks`.

    Args:
        name: of the model, for the title.

    Raises:
        ValueError: when Gradio is not installed.
    """
    gradio = check_gradio()
    with gradio.Blocks(title=f"Replaced tokens: {name}", analytics_enabled=False) as app:
        gradio.Markdown(f"# Replaced tokens\n{_WHAT} Model: `{name}`")
        if has_generator(detector):
            with gradio.Tab("The generator replaces"):
                sentence, written = _generator_part(gradio, detector)
            with gradio.Tab("You replace"):
                _edit_part(gradio, detector, sentence, written)
        else:
            gradio.Markdown(_LONE)
            _edit_part(gradio, detector)
    return app


def launch(app: Any, port: int | None = None, share: bool = False, wait: bool = True) -> str:
    """Serve the page on 127.0.0.1 (a Space: where GRADIO_SERVER_NAME says); nothing is reported to anyone, and nothing
    fetched from elsewhere.

    Args:
        port: the first free one from 7860 where it is `None`.
        share: make a public link through Gradio's servers.
        wait: until the process is stopped.

    Returns:
        The address.

    Raises:
        ValueError: for a port that none can be.
        OSError: when it is taken.
    """
    if port is not None and not 0 < port < 65536:
        raise ValueError(f"port is {port}; it must be in [1, 65535]")
    gradio = check_gradio()
    _, address, _ = app.launch(
        server_port=port,
        share=share,
        quiet=True,
        prevent_thread_lock=True,
        footer_links=[],
        # The Node server that renders pages in advance is one more thing to install.
        ssr_mode=False,
        # Fonts of the reader's system: nothing to load.
        theme=gradio.themes.Default(
            primary_hue="blue",
            font=["system-ui", "sans-serif"],
            font_mono=["ui-monospace", "monospace"],
            text_size="lg",
        ).set(button_primary_background_fill="*primary_700", button_primary_background_fill_hover="*primary_600"),
        css=_STYLE,
    )
    if wait:
        print(f"demo on {address}; Ctrl-C ends it", flush=True)
        app.block_thread()
    return address


def check_gradio() -> Any:
    """The module, imported without its telemetry.

    Raises:
        ValueError: when it is not installed.
    """
    # Read when it is imported; its client sends no reports either.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError:
        raise ValueError('the demo needs gradio, which is not installed: pip install "electra-rtd[demo]"') from None
    return gradio


def _generator_part(gradio: Any, detector: ReplacedTokenDetectionPipeline) -> tuple[Any, Any]:
    """Return the box of the sentence, and the state that holds the generator's text."""
    sentence = gradio.Textbox(EXAMPLE, label="Sentence", elem_id="sentence", lines=2)
    usual_share = detector.model.config.mask_probability
    start = draw_positions(detector, EXAMPLE, usual_share, _FIRST_SEED)
    first = generate(detector, EXAMPLE, start)
    chosen = gradio.CheckboxGroup(
        _choices(detector, EXAMPLE),
        value=start,
        label="Masked tokens: choose them, or let them be drawn",
        elem_id="positions",
    )
    with gradio.Row():
        draw = gradio.Button("Draw positions", elem_id="draw", size="md")
        again = gradio.Button("Fill again", variant="primary", elem_id="again", size="md")
    with gradio.Accordion("Settings", open=False):
        share = gradio.Slider(0.05, 1, usual_share, step=0.05, label="Share of tokens that is drawn")
        temperature = gradio.Slider(
            0, 3, 1, step=0.1, label="Temperature of the generator (0 takes the most likely token)"
        )
        top_k = gradio.Slider(1, 20, 5, step=1, label="Proposals shown for a position")
    seed, written = gradio.State(0), gradio.State(first.text)
    gradio.Markdown("### What the discriminator thinks of every token")
    heat = gradio.HTML(heat_map(verdicts(detector, first)), elem_id="generated")
    gradio.Markdown("### What the generator proposes")
    proposals = gradio.HTML(_proposals(detector, first), elem_id="proposals")

    def fill(text: str, positions: list[int], temperature: float, top_k: int, seed: int) -> tuple[str, str, str]:
        # Whoever types on meanwhile may have taken the last tokens away.
        positions = [position for position in positions if position < len(_choices(detector, text))]
        if not positions:
            return "<p>Choose at least one token to mask.</p>", "", text
        generated = generate(detector, text, positions, temperature, seed, int(top_k))
        return heat_map(verdicts(detector, generated)), _proposals(detector, generated), generated.text

    def retokenize(text: str, positions: list[int]) -> Any:
        choices = _choices(detector, text)
        return gradio.CheckboxGroup(choices=choices, value=[p for p in positions if p < len(choices)])

    def redraw(text: str, share: float, seed: int) -> tuple[list[int], int]:
        return draw_positions(detector, text, share, seed + 1) if text.strip() else [], seed + 1

    settings = [sentence, chosen, temperature, top_k, seed]
    shown = [heat, proposals, written]
    live = {"trigger_mode": "always_last", "show_progress": "hidden"}
    # Not on input, which pasting does not fire.
    sentence.change(retokenize, [sentence, chosen], chosen, **live).then(fill, settings, shown, show_progress="hidden")
    gradio.on([draw.click, share.release], redraw, [sentence, share, seed], [chosen, seed]).then(fill, settings, shown)
    again.click(lambda seed: seed + 1, seed, seed).then(fill, settings, shown)
    gradio.on([chosen.input, temperature.release, top_k.release], fill, settings, shown, **live)
    return sentence, written


def _edit_part(
    gradio: Any, detector: ReplacedTokenDetectionPipeline, sentence: Any = None, written: Any = None
) -> None:
    """
    Args:
        sentence: the box of the text that an edit is compared with, where there is a generator.
        written: the state that holds the generator's text.
    """
    original = None if sentence is None else EXAMPLE
    edited = gradio.Textbox(
        EDITED_EXAMPLE, label="Your text: change it, and watch the probabilities", elem_id="edited", lines=2
    )
    if sentence is not None:
        with gradio.Row():
            from_sentence = gradio.Button("Begin with the sentence", elem_id="from-sentence", size="md")
            from_generator = gradio.Button("Begin with the generator's text", elem_id="from-generator", size="md")
    heat = gradio.HTML(heat_map(verdicts_on_edit(detector, EDITED_EXAMPLE, original)), elem_id="judged")

    def judge(text: str, before: str | None = None) -> str:
        if not text.strip():
            return "<p>Write something.</p>"
        return heat_map(verdicts_on_edit(detector, text, before if before and before.strip() else None))

    boxes = [edited] if sentence is None else [edited, sentence]
    gradio.on([box.change for box in boxes], judge, boxes, heat, trigger_mode="always_last", show_progress="hidden")
    if sentence is not None:
        from_sentence.click(lambda text: text, sentence, edited)
        from_generator.click(lambda text: text, written, edited)


def _choices(detector: ReplacedTokenDetectionPipeline, text: str) -> list[tuple[str, int]]:
    return [(token, index) for index, token in enumerate(tokens_of(detector, text))] if text.strip() else []


def _proposals(detector: ReplacedTokenDetectionPipeline, generated: Generated) -> str:
    names = tokens_of(detector, generated.original.text)
    cards = []
    for position, row in zip(generated.positions, generated.proposals, strict=True):
        lines = "".join(map(_proposal, row))
        cards.append(f"<section><h4>instead of {html.escape(names[position])}</h4>{lines}</section>")
    return f'<div class="proposals">{"".join(cards)}</div>'


def _proposal(proposal: ProposedToken) -> str:
    marks = [mark for mark, holds in (("original", proposal.is_original), ("drawn", proposal.is_drawn)) if holds]
    note = f"<small>{', '.join(marks)}</small>" if marks else ""
    return (
        f'<p class="{" ".join(marks)}" style="--width:{proposal.probability:.1%}">'
        f"<span>{html.escape(proposal.token)}{note}</span><span>{_shown(proposal.probability)}</span></p>"
    )


def _shown(probability: float) -> str:
    # Zero would say that it cannot happen.
    return "&lt; 0.001" if probability < 0.0005 else f"{probability:.3f}"
