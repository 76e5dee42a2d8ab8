"""A corpus, a tokenizer and blocks small enough for a test, made by the package itself."""

import random
from pathlib import Path

from modeling_electra_rtd.data.blocks import prepare_blocks
from modeling_electra_rtd.data.tokenizer_training import train_tokenizer


_NOUNS = "river city teacher garden engine letter mountain winter question window".split()
_VERBS = "finds keeps opens follows reads carries watches builds forgets answers".split()


def write_corpus(folder: Path, documents: int = 120, seed: int = 0) -> str:
    """Documents of a few plain sentences, blank lines between them."""
    chosen = random.Random(seed)
    texts = []
    for _ in range(documents):
        sentences = [
            f"The {chosen.choice(_NOUNS)} {chosen.choice(_VERBS)} the {chosen.choice(_NOUNS)}."
            for _ in range(chosen.randint(2, 9))
        ]
        texts.append(" ".join(sentences))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.txt").write_text("\n\n".join(texts) + "\n")
    return str(folder)


def make_blocks(folder: Path, max_length: int = 32) -> tuple[str, str]:
    """Paths of blocks and of the tokenizer they were made with."""
    corpus = write_corpus(folder / "corpus")
    tokenizer, blocks = str(folder / "tokenizer"), str(folder / "blocks")
    train_tokenizer([corpus], tokenizer, vocab_size=120, progress=False)
    prepare_blocks(
        [corpus], tokenizer, blocks, max_length=max_length, validation_fraction=0.2, num_proc=1, progress=False
    )
    return blocks, tokenizer


# Overrides that make any recipe small: `--field value` as a user would type them.
SMALL_RUN = {
    "max_steps": "2",
    "per_device_train_batch_size": "4",
    "gradient_accumulation_steps": "1",
    "per_device_eval_batch_size": "4",
    "warmup_steps": "0",
    "eval_steps": "1",
    "save_strategy": "no",
    "logging_steps": "1",
    "torch_compile": "false",
    "dataloader_num_workers": "0",
    "disable_tqdm": "true",
}
