"""How far an encoder's states tell how alike two sentences are, before any fine-tuning:

    python scripts/sentence_similarity.py runs/rtd runs/rtd_mlm --data-dir STS-B

A sentence is the mean of its tokens' states, and two are as alike as the cosine of their means. The table has
Spearman's correlation with what people said, before the first layer (`words`) and after every one; beside it with the
mean of all sentences taken off, which is most of what states have in common. Alike sentences share words, so that
random weights are not at 0: the last row is the first model's architecture with such.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn import functional
from transformers import AutoConfig, AutoModel, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from modeling_electra_rtd.common.machine import environment
from modeling_electra_rtd.common.new_folder import check_new_file, new_file
from modeling_electra_rtd.common.references import find_model
from modeling_electra_rtd.data.tokenization import load_tokenizer
from modeling_electra_rtd.finetuning.reading import read_task
from modeling_electra_rtd.finetuning.tasks import find_task
from modeling_electra_rtd.model.backbones import longest_row
from modeling_electra_rtd.model.stock_models import without_loading_reports


TASK = "stsb"
RANDOM_WEIGHTS = "random weights"
_SENTENCES_A_BATCH = 32


@torch.inference_mode()
def sentence_states(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sentences: Sequence[str]) -> Tensor:
    """`(1 + layers, sentences, hidden_size)` float32: the means of tokens, before the first layer and after each."""
    length = longest_row(model.config)
    by_length = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    means = []
    for start in range(0, len(sentences), _SENTENCES_A_BATCH):
        batch = [sentences[i] for i in by_length[start : start + _SENTENCES_A_BATCH]]
        inputs = tokenizer(batch, padding=True, truncation=length is not None, max_length=length, return_tensors="pt")
        inputs = {name: inputs[name].to(model.device) for name in ("input_ids", "attention_mask")}
        states = model(**inputs, output_hidden_states=True).hidden_states
        weights = inputs["attention_mask"][..., None].float()
        means.append(torch.stack([(each.float() * weights).sum(1) / weights.sum(1) for each in states]))
    back = torch.tensor(by_length).argsort()
    return torch.cat(means, dim=1)[:, back]


def correlations(states: Tensor, scores: Sequence[float]) -> list[float]:
    """Spearman's, after every layer, of the cosines of pairs with what people said.

    Args:
        states: `(layers, 2 * pairs, hidden_size)`, the two of a pair one after the other.
    """
    cosines = functional.cosine_similarity(states[:, ::2], states[:, 1::2], dim=-1)
    return [float(spearmanr(of_layer.cpu(), scores).statistic) for of_layer in cosines]


def similarities(names: Sequence[str], data_dir: str | None, split: str) -> list[dict[str, Any]]:
    """A row for every model, and one for the first one's architecture with random weights.

    `as_they_are` and `less_their_mean` are `correlations` after the embeddings and every layer.

    Raises:
        ValueError: for what is no encoder, and for data that cannot be read or has no scores.
    """
    read = read_task(find_task(TASK), data_dir).splits
    if split not in read or "label" not in read[split].column_names:
        raise ValueError(f"{TASK} has no scores for the split {split!r}")
    examples = read[split]
    sentences = [text for pair in zip(examples["sentence1"], examples["sentence2"], strict=True) for text in pair]
    references = [find_model(name) for name in names]
    tokenizers = [load_tokenizer(reference) for reference in references]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = []

    def judge(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        states = sentence_states(model.to(device).eval(), tokenizer, sentences)
        centred = states - states.mean(dim=1, keepdim=True)
        found = {"as_they_are": states, "less_their_mean": centred}
        rows.append({"model": name, **{key: correlations(each, examples["label"]) for key, each in found.items()}})

    for name, reference, tokenizer in zip(names, references, tokenizers, strict=True):
        with without_loading_reports():
            judge(name, AutoModel.from_pretrained(reference.name, **reference.arguments), tokenizer)
    transformers.set_seed(0)
    config = AutoConfig.from_pretrained(references[0].name, **references[0].arguments)
    judge(RANDOM_WEIGHTS, AutoModel.from_config(config), tokenizers[0])
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of `similarities` as Markdown; a layer that a model does not have is left open."""
    layers = max(len(row["as_they_are"]) for row in rows) - 1
    lines = [f"| model | states | words | {' | '.join(f'layer {number + 1}' for number in range(layers))} |"]
    lines.append(f"|{'---|' * (layers + 3)}")
    for row in rows:
        for states in ("as_they_are", "less_their_mean"):
            figures = [f"{value:.3f}" for value in row[states]]
            cells = [row["model"], states.replace("_", " "), *figures, *["-"] * (layers + 1 - len(figures))]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", help="folders or Hub ids of encoders with their tokenizers")
    parser.add_argument("--data-dir", help="STS-B in its official layout; by default the Hub is read")
    parser.add_argument("--split", default="validation", help="of the data, one with scores")
    parser.add_argument("--json", metavar="FILE", help="write the rows here as well, a new file")
    arguments = parser.parse_args(argv)
    logging.disable_progress_bar()
    try:
        if arguments.json:
            check_new_file(arguments.json)
        rows = similarities(arguments.models, arguments.data_dir, arguments.split)
        print(table(rows))
        if arguments.json:
            record = {"task": TASK, "split": arguments.split, "rows": rows, **environment()}
            with new_file(arguments.json) as unfinished:
                Path(unfinished).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            print(f"\nrecord in {arguments.json}")
    except (OSError, ValueError) as error:
        print(f"sentence_similarity: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
