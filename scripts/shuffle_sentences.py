"""Write held-out sentences, each beside its own words in another order, for a model to tell apart:

    python scripts/shuffle_sentences.py --blocks runs/blocks --output runs/shuffled.jsonl
    electra-rtd score runs/electric_tiny runs/shuffled.jsonl --text-column sentence --against shuffled

Both texts of a pair have the same words, so counting them tells nothing. WordPiece makes the same tokens of both; to
byte-level BPE a word without a space in front is another than one with it, so that the tokens of the words that come
first differ. The last word, with its full stop, stays where it is.
"""

import argparse
import json
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from modeling_electra_rtd.common.new_folder import check_new_file, new_file
from modeling_electra_rtd.data.blocks import TOKENIZER, load_blocks
from modeling_electra_rtd.data.tokenization import load_tokenizer


_END = re.compile(r"(?<=[.!?])\s+")
# Words, of which a full stop may be one.
SHORTEST, LONGEST = 8, 32


def held_out_sentences(blocks: str) -> Iterator[str]:
    """Whole sentences of the held-out blocks, as their tokenizer writes them.

    Raises:
        ValueError: for a folder without held-out blocks.
    """
    held_out = load_blocks(blocks, "validation")
    tokenizer = load_tokenizer(str(Path(blocks) / TOKENIZER))
    for input_ids in held_out["input_ids"]:
        # A block begins and ends in the middle of a sentence.
        for sentence in _END.split(tokenizer.decode(input_ids, skip_special_tokens=True))[1:-1]:
            if SHORTEST <= len(sentence.split()) <= LONGEST:
                yield sentence


def shuffled_pairs(blocks: str, count: int, seed: int) -> list[dict[str, str]]:
    """`sentence` and `shuffled`, `count` of them or as many as there are.

    Raises:
        ValueError: for a folder without held-out blocks.
    """
    generator = random.Random(seed)
    sentences = sorted(set(held_out_sentences(blocks)))
    pairs = []
    for sentence in generator.sample(sentences, min(count, len(sentences))):
        *words, last = sentence.split()
        shuffled = words.copy()
        while shuffled == words and len(set(words)) > 1:
            generator.shuffle(shuffled)
        pairs.append({"sentence": sentence, "shuffled": " ".join([*shuffled, last])})
    return pairs


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", required=True, help="a folder that `prepare` has made")
    parser.add_argument("--output", required=True, metavar="FILE", help="JSON Lines, a new file")
    parser.add_argument("--count", type=int, default=500, help="pairs")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of sentences and of their order")
    arguments = parser.parse_args(argv)
    try:
        check_new_file(arguments.output)
        pairs = shuffled_pairs(arguments.blocks, arguments.count, arguments.seed)
        with new_file(arguments.output) as unfinished:
            lines = (json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs)
            Path(unfinished).write_text("".join(lines), encoding="utf-8")
    except ValueError as error:
        print(f"shuffle_sentences: error: {error}", file=sys.stderr)
        return 2
    print(f"{len(pairs):,} pairs in {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
