import collections
import json

import pyarrow
import pyarrow.parquet
import pytest
import torch
from transformers import BertTokenizer

from modeling_electra_rtd.data import shares
from modeling_electra_rtd.data.blocks import load_blocks, prepare_blocks
from modeling_electra_rtd.data.collator import BlockCollator
from modeling_electra_rtd.data.streaming import stream_blocks


DOCUMENTS = [" ".join([str(number)] * (1 + number % 17)) for number in range(300)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(300))]
    folder = str(tmp_path_factory.mktemp("tokenizer"))
    BertTokenizer(vocab={word: index for index, word in enumerate(words)}).save_pretrained(folder)
    return folder


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.setattr(shares, "SHARE_BYTES", 1000)
    (tmp_path / "corpus.txt").write_text("\n\n".join(DOCUMENTS))
    return [str(tmp_path / "corpus.txt")]


def counted(rows):
    return collections.Counter((tuple(row["input_ids"]), tuple(row["document_lengths"])) for row in rows)


def words_of(rows):
    ids = [index for row in rows for index in row["input_ids"] if index > 4]
    return collections.Counter(str(index - 5) for index in ids)


def test_rows_equal_prepared_blocks(tmp_path, corpus, tokenizer):
    prepare_blocks(
        corpus, tokenizer, str(tmp_path / "out"), max_length=24, validation_fraction=0.0, num_proc=1, progress=False
    )
    stream = stream_blocks(corpus, tokenizer=tokenizer, max_length=24, shuffle_buffer_blocks=0)
    prepared = load_blocks(str(tmp_path / "out"))
    assert list(stream) == list(prepared) and stream.features == prepared.features


@pytest.mark.parametrize("suffix", ["tsv", "csv", "jsonl"])
def test_rows_of_a_table_are_documents_prepared_or_streamed(tmp_path, tokenizer, suffix):
    marked = [f'"{text}' if number in (7, 90) else text for number, text in enumerate(DOCUMENTS)]
    path = str(tmp_path / f"a.{suffix}")
    if suffix == "tsv":
        content = "id\ttext\n" + "".join(f"{number}\t{text}\n" for number, text in enumerate(marked))
    elif suffix == "csv":
        doubled = [text.replace('"', '""') for text in marked]
        content = "id,text\n" + "".join(f'{number},"{text}"\n' for number, text in enumerate(doubled))
    else:
        content = "".join(json.dumps({"id": number, "text": text}) + "\n" for number, text in enumerate(marked))
    with open(path, "w") as file:
        file.write(content)
    manifest = prepare_blocks(
        [path], tokenizer, str(tmp_path / "out"), max_length=24, validation_fraction=0.0, num_proc=1, progress=False
    )
    assert (manifest["splits"]["train"]["documents"], manifest["empty_documents"]) == (len(DOCUMENTS), 0)
    stream = list(stream_blocks([path], tokenizer=tokenizer, max_length=24, shuffle_buffer_blocks=0))
    assert stream == list(load_blocks(str(tmp_path / "out")))
    assert words_of(stream) == collections.Counter(" ".join(DOCUMENTS).split())


def test_every_epoch_has_an_order_of_its_own(corpus, tokenizer):
    def epoch(number, seed=42):
        stream = stream_blocks(corpus, tokenizer=tokenizer, max_length=24, seed=seed, shuffle_buffer_blocks=50)
        stream.set_epoch(number)
        return list(stream)

    assert epoch(0) == epoch(0)
    assert epoch(0) != epoch(1) and epoch(0) != epoch(0, seed=43)
    assert counted(epoch(0)) == counted(epoch(1)) == counted(epoch(0, seed=43))


@pytest.mark.parametrize("world_size", [2, 3, 7])
def test_ranks_divide_the_blocks(corpus, tokenizer, world_size):
    options = {"tokenizer": tokenizer, "max_length": 24, "shuffle_buffer_blocks": 50}
    ranks = [stream_blocks(corpus, rank=rank, world_size=world_size, **options) for rank in range(world_size)]
    divided = sum((counted(rank) for rank in ranks), collections.Counter())
    assert divided == counted(stream_blocks(corpus, **options)) and all(counted(rank) for rank in ranks)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_loader_workers_divide_the_blocks(corpus, tokenizer):
    stream = stream_blocks(corpus, tokenizer=tokenizer, max_length=24)
    assert stream.num_shards > 2
    loader = torch.utils.data.DataLoader(stream, batch_size=4, num_workers=2, collate_fn=BlockCollator())
    batches = list(loader)
    assert batches[0]["input_ids"].shape == (4, 24)
    loaded = [{"input_ids": row.tolist()} for batch in batches for row in batch["input_ids"]]
    assert words_of(loaded) == collections.Counter(" ".join(DOCUMENTS).split())


def test_dataset(tmp_path, tokenizer):
    for index in range(2):
        table = pyarrow.table({"body": DOCUMENTS[index::2]})
        pyarrow.parquet.write_table(table, tmp_path / f"train-{index}.parquet")
    stream = stream_blocks(dataset=str(tmp_path), tokenizer=tokenizer, max_length=24, text_column="body")
    assert stream.num_shards == 2
    assert words_of(stream) == collections.Counter(" ".join(DOCUMENTS).split())


@pytest.mark.parametrize(
    "options, problem",
    [
        ({"dataset": "x"}, "either corpus or dataset"),
        ({"corpus": None}, "either corpus or dataset"),
        ({"corpus": ["nowhere"]}, "no such file or folder"),
        ({"max_length": 2}, "max_length is 2; it must be at least 3"),
        ({"documents": "page"}, "documents is 'page'"),
        ({"shuffle_buffer_blocks": -1}, "shuffle_buffer_blocks is -1; it must be at least 0"),
        ({"rank": 2, "world_size": 2}, "rank is 2; it must be in"),
        ({"tokenizer": "nowhere"}, "tokenizer 'nowhere': cannot be loaded"),
    ],
)
def test_refused_before_reading(corpus, tokenizer, options, problem):
    with pytest.raises(ValueError, match=problem) as error:
        stream_blocks(**{"corpus": corpus, "tokenizer": tokenizer, **options})
    assert "\n" not in str(error.value)


def test_invalid_file_is_refused_when_reached(tmp_path, tokenizer):
    (tmp_path / "bad.txt").write_bytes(b"1 2 3\n\n\xff")
    stream = stream_blocks([str(tmp_path / "bad.txt")], tokenizer=tokenizer)
    with pytest.raises(ValueError, match="bad.txt: not UTF-8"):
        list(stream)


def test_a_text_a_line_is_hinted_at(tmp_path, tokenizer, caplog):
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(DOCUMENTS))
    stream_blocks([str(path)], tokenizer=tokenizer)
    assert f"{path}: 300 lines are 1 document," in caplog.text and "--documents line" in caplog.text
    caplog.clear()
    stream_blocks([str(path)], tokenizer=tokenizer, documents="line")
    assert not caplog.messages
