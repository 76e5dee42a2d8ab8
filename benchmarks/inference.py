"""Sentences per second of judging real text here, against the loop one would write with stock `transformers`.

    python benchmarks/inference.py --text sentences.txt --tokenizer TOKENIZER --json inference.json
    python benchmarks/inference.py --text sentences.txt --model runs/tiny

All contenders judge every token of the same lines with the same weights, random ones unless a model is named,
tokenization included, in alternation in one process. Stock: `ElectraForPreTraining` (for other families the stock
encoder and the head) in fp32 on batches of lines as they come, padded to the longest line of the batch, or all to the
maximum. Here: `pipeline("replaced-token-detection")`, and what `electra-rtd score` does. The
table says how far their answers lie from those of stock.

`electra-rtd inspect` corrupts the lines first, and is compared with the same loop around both stock networks: choose,
mask, fill in, judge. Its answers are compared with those of the stock discriminator to the lines that it showed.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from records import write_record
from torch import Tensor
from training_steps import SHAPES
from transformers import AutoModelForMaskedLM, ElectraConfig, ElectraForPreTraining, PreTrainedTokenizerBase

from modeling_electra_rtd import ElectraRtdForPreTraining, ElectraRtdGenerator, ReplacedTokenDetectionPipeline
from modeling_electra_rtd.common.pairs import holds_pair
from modeling_electra_rtd.common.references import find_model
from modeling_electra_rtd.data.documents import read_lines
from modeling_electra_rtd.data.tokenization import load_tokenizer
from modeling_electra_rtd.inspection.pipeline_task import DiscriminatorLoader
from modeling_electra_rtd.inspection.scores import load_scorer, score_texts
from modeling_electra_rtd.inspection.tokens import InspectedToken, inspect_texts, load_for_inspection
from modeling_electra_rtd.model.cpu_attention import use_cpu_layers


# Judges all lines; for each the probability of every token that it was replaced, or one score.
Contender = Callable[[list[str]], list[Any]]

# What corrupts the lines first is compared with this one.
STOCK_PAIR = "stock, both networks"


def stock(folder: str, tokenizer: PreTrainedTokenizerBase, padding: str, setting: argparse.Namespace) -> Contender:
    """The usual loop; for each line `(n,)` probabilities."""
    model = DiscriminatorLoader.from_pretrained(folder).eval().to(setting.device)

    @torch.no_grad()
    def judge(lines: list[str]) -> list[Tensor]:
        judged = []
        for start in range(0, len(lines), setting.batch):
            batch = tokenizer(
                lines[start : start + setting.batch],
                padding=padding,
                truncation=True,
                max_length=setting.length,
                return_token_type_ids=False,
                return_tensors="pt",
            ).to(setting.device)
            probabilities = model(**batch).logits.sigmoid().cpu()
            counts = batch["attention_mask"].sum(dim=1).tolist()
            # Without [CLS] and [SEP].
            judged += [row[1 : count - 1] for row, count in zip(probabilities, counts, strict=True)]
        return judged

    return judge


def stock_pair(folder: str, tokenizer: PreTrainedTokenizerBase, setting: argparse.Namespace) -> Contender:
    """The usual loop over both networks of a pair; for each line `(n,)` probabilities of what it was made."""
    with tempfile.TemporaryDirectory() as generator_folder:
        ElectraRtdGenerator.from_pretrained(folder).save_pretrained(generator_folder)
        generator = AutoModelForMaskedLM.from_pretrained(generator_folder).eval().to(setting.device)
    discriminator = DiscriminatorLoader.from_pretrained(folder).eval().to(setting.device)
    special = torch.tensor(tokenizer.all_special_ids, device=setting.device)

    @torch.no_grad()
    def judge(lines: list[str]) -> list[Tensor]:
        judged = []
        for start in range(0, len(lines), setting.batch):
            batch = tokenizer(
                lines[start : start + setting.batch],
                padding="longest",
                truncation=True,
                max_length=setting.length,
                return_token_type_ids=False,
                return_tensors="pt",
            ).to(setting.device)
            ids = batch["input_ids"]
            chosen = (torch.rand(ids.shape, device=ids.device) < 0.15) & ~torch.isin(ids, special)
            masked = ids.masked_fill(chosen, tokenizer.mask_token_id)
            probs = generator(masked, attention_mask=batch["attention_mask"]).logits[chosen].softmax(dim=-1)
            shown = ids.clone()
            if len(probs):
                shown[chosen] = torch.multinomial(probs, 1)[:, 0]
            probabilities = discriminator(shown, attention_mask=batch["attention_mask"]).logits.sigmoid().cpu()
            counts = batch["attention_mask"].sum(dim=1).tolist()
            judged += [row[1 : count - 1] for row, count in zip(probabilities, counts, strict=True)]
        return judged

    return judge


def inspecting(folder: str, bf16: bool, setting: argparse.Namespace) -> Contender:
    """What `electra-rtd inspect --file` does; for each line its tokens."""
    model, tokenizer = load_for_inspection(folder)
    model = model.to(setting.device)
    if setting.device == "cpu":
        use_cpu_layers(model)
    return lambda lines: list(inspect_texts(model, tokenizer, lines, bf16=bf16))


def contenders(
    folder: str, pair: str | None, tokenizer: PreTrainedTokenizerBase, setting: argparse.Namespace
) -> dict[str, Contender]:
    """Those of a comparison, the one that the others are compared with first.

    Args:
        pair: a folder with a generator too, for those that corrupt the lines first.
    """
    detectors = {
        bf16: ReplacedTokenDetectionPipeline(
            model=DiscriminatorLoader.from_pretrained(folder), tokenizer=tokenizer, device=setting.device, bf16=bf16
        )
        for bf16 in (True, False)
    }
    scorers = {bf16: load_scorer(folder, bf16=bf16) for bf16 in (True, False)}

    def detect(bf16: bool) -> Contender:
        return lambda lines: [
            torch.tensor([token["probability"] for token in line]) for line in detectors[bf16](lines)
        ]

    def score(bf16: bool) -> Contender:
        return lambda lines: [score.mean for score in score_texts(scorers[bf16], lines)]

    found = {
        "stock, longest": stock(folder, tokenizer, "longest", setting),
        "stock, maximum": stock(folder, tokenizer, "max_length", setting),
        "pipeline, fp32": detect(False),
        "pipeline, bf16": detect(True),
        "score, fp32": score(False),
        "score, bf16": score(True),
    }
    if pair is not None:
        found |= {
            STOCK_PAIR: stock_pair(pair, tokenizer, setting),
            "inspect, fp32": inspecting(pair, False, setting),
            "inspect, bf16": inspecting(pair, True, setting),
        }
    return found


def shown_probabilities(
    inspected: list[list[InspectedToken]], folder: str, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[Tensor], list[Tensor]]:
    """What the stock discriminator says of the lines that were shown, and what was said of them."""
    model, expected = DiscriminatorLoader.from_pretrained(folder).eval(), []
    first, last = tokenizer("")["input_ids"]
    for tokens in inspected:
        ids = tokenizer.convert_tokens_to_ids([token.shown for token in tokens])
        with torch.no_grad():
            logits = model(torch.tensor([[first, *ids, last]])).logits
        expected.append(logits[0, 1:-1].sigmoid())
    return expected, [torch.tensor([token.replaced_probability for token in tokens]) for tokens in inspected]


def written(number: float | None, form: str) -> str:
    """For a cell of the table."""
    return "" if number is None else format(number, form)


def difference(reference: list[Tensor], found: list[Any]) -> tuple[float, float]:
    """Largest and mean absolute difference, of probabilities or of scores."""
    if isinstance(found[0], Tensor):
        differences = torch.cat(reference) - torch.cat(found)
    else:
        # log P(original) of probabilities of the opposite, and its mean.
        differences = torch.stack([torch.log1p(-row.double()).mean() for row in reference]) - torch.tensor(found)
    return differences.abs().max().item(), differences.abs().mean().item()


def sentences(path: str, tokenizer: PreTrainedTokenizerBase, setting: argparse.Namespace) -> tuple[list[str], int]:
    """Lines that have tokens and fit, spread evenly over a file, and the number of their tokens."""
    lines = [line for line in read_lines(path, setting.text_column) if line]
    counts = [len(ids) for ids in tokenizer(lines, add_special_tokens=False, verbose=False)["input_ids"]]
    fitting = [(line, count) for line, count in zip(lines, counts, strict=True) if 0 < count <= setting.length - 2]
    fitting = fitting[:: max(1, len(fitting) // setting.lines)][: setting.lines]
    return [line for line, _ in fitting], sum(count for _, count in fitting)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--text", required=True, help="a sentence a line: txt, or jsonl, csv, tsv, parquet")
    parser.add_argument("--text-column", default="text", help="of a table")
    parser.add_argument("--model", help="folder of a checkpoint or release; by default random weights")
    parser.add_argument("--tokenizer", help="of random weights: folder, or OWNER/NAME of the Hub")
    parser.add_argument("--shape", choices=SHAPES, default="small", help="of random weights")
    parser.add_argument("--lines", type=int, default=1000, help="that are judged")
    parser.add_argument("--batch", type=int, default=32, help="rows of a stock batch")
    parser.add_argument("--length", type=int, default=128, help="the maximum; longer lines are left out")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every contender")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", metavar="FILE", help="write the record here as well")
    setting = parser.parse_args()
    if (setting.model is None) == (setting.tokenizer is None):
        parser.error("give --model, or --tokenizer for random weights, one of them")
    tokenizer = load_tokenizer(setting.model or setting.tokenizer)
    lines, tokens = sentences(setting.text, tokenizer, setting)
    with tempfile.TemporaryDirectory() as folder:
        if setting.model is None:
            torch.manual_seed(0)
            config = ElectraConfig(**SHAPES[setting.shape][0], vocab_size=len(tokenizer))
            ElectraForPreTraining(config).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            pair = f"{folder}/pair"
            ElectraRtdForPreTraining.from_pair(folder, tokenizer=tokenizer).save_pretrained(pair)
            tokenizer.save_pretrained(pair)
        else:
            pair = setting.model if holds_pair(find_model(setting.model)) else None
        judges = contenders(setting.model or folder, pair, tokenizer, setting)
        answers = {name: judge(lines) for name, judge in judges.items()}
        reference = next(iter(answers.values()))
        compared = {name: (reference, found) for name, found in answers.items()}
        for name in [name for name in answers if name.startswith("inspect")]:
            compared[name] = shown_probabilities(answers[name], pair, tokenizer)
    compared.pop(STOCK_PAIR, None)
    seconds: dict[str, list[float]] = {name: [] for name in judges}
    for _ in range(setting.rounds):
        for name, judge in judges.items():
            started = time.perf_counter()
            judge(lines)
            seconds[name].append(time.perf_counter() - started)
    rows = []
    for name, taken in seconds.items():
        # The usual loop around a pair draws a text of its own.
        largest, mean = difference(*compared[name]) if name in compared else (None, None)
        baselines = {"longest": "stock, longest", "maximum": "stock, maximum"}
        if name.startswith("inspect") or name == STOCK_PAIR:
            baselines["pair"] = STOCK_PAIR
        rows.append(
            {
                "contender": name,
                "sentences_per_second": len(lines) / statistics.median(taken),
                "tokens_per_second": tokens / statistics.median(taken),
                # Turn by turn, so that a machine that slows down slows both sides of a ratio.
                **{
                    f"times_{against}": statistics.median(
                        one / other for one, other in zip(seconds[baseline], taken, strict=True)
                    )
                    for against, baseline in baselines.items()
                },
                "largest_difference": largest,
                "mean_difference": mean,
                "of": "scores" if name.startswith("score") else "probabilities",
                "seconds": taken,
            }
        )
    deviation = torch.stack([torch.log1p(-row.double()).mean() for row in reference]).std().item()
    named = setting.model or f"ELECTRA {setting.shape}, random weights"
    print(f"{named}, {len(lines):,} lines, {tokens / len(lines):.1f} tokens a line on average\n")
    print(
        "| contender | sentences/s | tokens/s | against longest | against maximum | against both networks "
        "| largest difference | mean | of |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['contender']} | {row['sentences_per_second']:,.0f} | {row['tokens_per_second']:,.0f} "
            f"| {row['times_longest']:.2f} | {row['times_maximum']:.2f} | {written(row.get('times_pair'), '.2f')} "
            f"| {written(row['largest_difference'], '.1e')} | {written(row['mean_difference'], '.1e')} | {row['of']} |"
        )
    print(f"\nscores of different lines deviate by {deviation:.3f} from their mean")
    write_record(setting, tokens=tokens, threads=torch.get_num_threads(), deviation_of_scores=deviation, rows=rows)


if __name__ == "__main__":
    main()
