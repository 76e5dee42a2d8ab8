"""The recurrent family: what a state may know, every head, checkpoints with and without this package, and learning."""

import json
import os
import subprocess
import sys

import pytest
import torch
from datasets import Dataset
from helpers.blocks import random_blocks, tiny_arguments
from helpers.finetuning import trainer_of
from helpers.release import REFUSE, stepped
from helpers.tiny import (
    MASK,
    OBJECTIVE,
    PAD,
    VOCABULARY,
    randomize,
    tiny_config,
    tiny_packed,
    tiny_text,
    tiny_tokenizer,
    uniforms_for,
)
from safetensors.torch import load_file
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from modeling_electra_rtd import (
    ElectraRtdConfig,
    ElectraRtdForPreTraining,
    ElectraRtdTrainingArguments,
    GruEncoderConfig,
    GruEncoderModel,
)
from modeling_electra_rtd.data.collator import IndexedBlocks
from modeling_electra_rtd.finetuning.kinds.multiple_choice import MultipleChoice
from modeling_electra_rtd.finetuning.kinds.sequence_classification import SequenceClassification
from modeling_electra_rtd.finetuning.layerwise import learning_rate_exponents
from modeling_electra_rtd.finetuning.tasks import TASKS
from modeling_electra_rtd.model.backbones import generator_config_for
from modeling_electra_rtd.model.corruption import slots_per_row
from modeling_electra_rtd.pretraining.step_cost import DISCRIMINATOR, GENERATOR, count_step
from modeling_electra_rtd.pretraining.trainer import ElectraRtdTrainer
from modeling_electra_rtd.release.export import export
from modeling_electra_rtd.release.scan import uploadable_files


both = pytest.mark.parametrize("bidirectional", [False, True])


def tiny_gru_config(**overrides) -> GruEncoderConfig:
    values = {
        "vocab_size": VOCABULARY,
        "embedding_size": 16,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "pad_token_id": PAD,
        "hidden_dropout_prob": 0.0,
    }
    return GruEncoderConfig(**values | overrides)


def gru_pair(seed: int = 0, generator=None, discriminator=None, **objective) -> ElectraRtdForPreTraining:
    torch.manual_seed(seed)
    discriminator = discriminator or tiny_gru_config()
    generator = generator or generator_config_for(discriminator, 0.5)
    config = ElectraRtdConfig(discriminator_config=discriminator, generator_config=generator, **OBJECTIVE | objective)
    return randomize(ElectraRtdForPreTraining(config), seed).eval()


def encoder_of(**overrides) -> GruEncoderModel:
    torch.manual_seed(0)
    return randomize(GruEncoderModel(tiny_gru_config(**overrides))).eval()


@both
def test_padding_changes_nothing(bidirectional):
    model, batch = encoder_of(bidirectional=bidirectional), tiny_text()
    with torch.no_grad():
        padded = model(**batch).last_hidden_state
        assert padded.shape == (3, 24, 32)
        for row, length in enumerate(batch["attention_mask"].sum(dim=1)):
            alone = model(batch["input_ids"][row : row + 1, :length]).last_hidden_state
            torch.testing.assert_close(padded[row : row + 1, :length], alone, atol=1e-6, rtol=1e-6)
        # Padding in front is as good.
        shifted = {name: torch.roll(values, 5, dims=1) for name, values in batch.items()}
        states = model(**shifted).last_hidden_state[1:, 5:]
        torch.testing.assert_close(states[0, :19], padded[1, :19], atol=1e-6, rtol=1e-6)


@both
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_documents_know_nothing_of_each_other(bidirectional, attention):
    model = gru_pair(discriminator=tiny_gru_config(bidirectional=bidirectional))
    model.set_attn_implementation(attention)
    sizes = (9, 11)
    packed = tiny_packed(sizes)
    start = 0
    with torch.no_grad():
        found = {"detected": model.discriminate(**packed), "words": model.generator(**packed).logits}
        for size in sizes:
            document = slice(start, start + size)
            ids = packed["input_ids"][:, document]
            alone = {"detected": model.discriminate(ids), "words": model.generator(ids).logits}
            for name, expected in alone.items():
                torch.testing.assert_close(found[name][:, document], expected, atol=1e-6, rtol=1e-6)
            start += size
        # To the last bit: whatever the first document says, the second is as it was.
        packed["input_ids"][0, 1:8] = MASK
        assert torch.equal(model.discriminate(**packed)[:, 9:20], found["detected"][:, 9:20])
        assert not torch.equal(model.discriminate(**packed)[:, :9], found["detected"][:, :9])


@both
def test_what_a_state_knows_of_the_text_to_its_right(bidirectional):
    model, ids = encoder_of(bidirectional=bidirectional), tiny_text(1)["input_ids"]
    changed = ids.clone()
    changed[0, 12] = MASK
    with torch.no_grad():
        before, after = (model(text).last_hidden_state[0] for text in (ids, changed))
    assert torch.equal(before[:12], after[:12]) == (not bidirectional)
    assert not torch.equal(before[12:], after[12:])


@both
def test_every_head_has_its_loss_and_moves_every_weight(bidirectional):
    batch = {**tiny_text(), "token_type_ids": torch.zeros(3, 24, dtype=torch.int64)}
    config = tiny_gru_config(bidirectional=bidirectional, num_labels=3)
    tokens = torch.where(batch["attention_mask"] > 0, batch["input_ids"] % 3, -100)
    cases = {
        AutoModelForMaskedLM: {"labels": torch.where(tokens >= 0, batch["input_ids"], -100)},
        AutoModelForSequenceClassification: {"labels": torch.tensor([0, 2, 1])},
        AutoModelForTokenClassification: {"labels": tokens},
        AutoModelForQuestionAnswering: {
            "start_positions": torch.tensor([1, 2, 3]),
            "end_positions": torch.tensor([4, 2, 5]),
        },
        AutoModelForMultipleChoice: {"labels": torch.tensor([2])},
    }
    for auto_class, labels in cases.items():
        model = randomize(auto_class.from_config(config))
        assert type(model).__name__ == auto_class.__name__.replace("AutoModel", "GruEncoder")
        is_choice = auto_class is AutoModelForMultipleChoice
        output = model(**{name: values[None] if is_choice else values for name, values in batch.items()}, **labels)
        if "labels" in labels:
            logits = output.logits.flatten(0, -2) if output.logits.ndim > 2 else output.logits
            expected = functional.cross_entropy(logits, labels["labels"].flatten(), ignore_index=-100)
        else:
            ends = zip((output.start_logits, output.end_logits), labels.values(), strict=True)
            expected = sum(functional.cross_entropy(*end) for end in ends) / 2
        torch.testing.assert_close(output.loss, expected)
        output.loss.backward()
        unmoved = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
        # What is added to every choice alike chooses none.
        assert set(unmoved) <= ({"classifier.out_proj.bias"} if is_choice else set()), auto_class


def test_hidden_states_on_request():
    model, batch = encoder_of(), tiny_text()
    with torch.no_grad():
        output = model(**batch, output_hidden_states=True)
    assert len(output.hidden_states) == 3
    assert torch.equal(output.hidden_states[-1], output.last_hidden_state)


def test_a_classifier_reads_the_mean_over_the_tokens():
    model = randomize(AutoModelForSequenceClassification.from_config(tiny_gru_config())).eval()
    batch = tiny_text()
    with torch.no_grad():
        found = model(**batch).logits
        for row, length in enumerate(batch["attention_mask"].sum(dim=1)):
            ids = batch["input_ids"][row : row + 1, :length]
            torch.testing.assert_close(model(ids).logits[0], found[row], atol=1e-6, rtol=1e-5)


def test_generators_are_narrower_behind_a_projection_and_odd_widths_are_refused():
    generator = generator_config_for(tiny_gru_config(num_hidden_layers=4), 0.5, 0.5)
    assert (generator.hidden_size, generator.embedding_size, generator.num_hidden_layers) == (16, 16, 2)
    assert hasattr(GruEncoderModel(tiny_gru_config()), "embeddings_project")
    assert not hasattr(GruEncoderModel(generator), "embeddings_project")
    with pytest.raises(ValueError, match="num_directions 2 does not divide hidden_size 11"):
        generator_config_for(tiny_gru_config(), 11 / 32)
    assert generator_config_for(tiny_gru_config(bidirectional=False), 11 / 32).hidden_size == 11
    with pytest.raises(ValueError, match="'two_tower' needs one-sided masks, and gru_encoder takes none"):
        ElectraRtdConfig.from_discriminator(tiny_gru_config(), generator_kind="two_tower", **OBJECTIVE)
    with pytest.raises(ValueError, match="hidden_size is 33; two directions need an even one"):
        tiny_gru_config(hidden_size=33)


@pytest.mark.parametrize("sharing", ["none", "tied_words"])
def test_a_mixed_pair_shares_words_at_most(sharing):
    electra = tiny_config("electra")
    for pair in ({"generator": electra}, {"discriminator": electra, "generator": tiny_gru_config()}):
        with pytest.raises(ValueError, match="embedding_sharing 'tied' needs one family"):
            gru_pair(**pair)
        model = gru_pair(**pair, embedding_sharing=sharing, mask_probability=0.3).train()
        words = model.generator.get_input_embeddings().weight, model.get_input_embeddings().weight
        assert (words[0] is words[1]) == (sharing == "tied_words")
        model(**tiny_text(), corruption_uniforms=uniforms_for(tiny_text()["input_ids"], 0.3)).loss.backward()
        assert all(weight.grad is not None for weight in model.parameters())


def test_resizing_the_vocabulary():
    model = gru_pair(mask_probability=0.3)
    before = stepped(model).discriminator_loss
    model.resize_token_embeddings(VOCABULARY + 7, mean_resizing=False)
    assert model.config.vocab_size == model.generator.config.vocab_size == VOCABULARY + 7
    assert model.generator.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.generator(**tiny_text()).logits.shape[-1] == VOCABULARY + 7
    alone = AutoModelForMaskedLM.from_config(tiny_gru_config())
    alone.resize_token_embeddings(VOCABULARY + 7)
    assert alone(**tiny_text()).logits.shape[-1] == VOCABULARY + 7
    assert alone.generator_lm_head.weight is alone.get_input_embeddings().weight
    assert before.isfinite()


def test_flops_are_those_of_the_formula():
    rows, length, directions = 3, 10, 2
    config = ElectraRtdConfig.from_discriminator(tiny_gru_config(), 0.5, mask_probability=0.2, **OBJECTIVE)
    arguments = ElectraRtdTrainingArguments(output_dir=os.devnull, use_cpu=True, per_device_train_batch_size=rows)
    cost = count_step(lambda: ElectraRtdForPreTraining(config), arguments, length, "cpu")
    tokens, chosen = rows * length, rows * slots_per_row(length, 0.2)

    def encoder(sizes: GruEncoderConfig) -> int:
        hidden, width = sizes.hidden_size, sizes.hidden_size // directions
        # The borders are read as one feature more for a direction.
        read = tokens * 3 * width * (hidden + directions)
        # The backward pass has two products for each of the forward pass, but none to where a row begins.
        recurrence = tokens * 3 * width * width
        layer = directions * (3 * (read + recurrence) - rows * 3 * width * width)
        is_projected = sizes.embedding_size != hidden
        return 2 * (sizes.num_hidden_layers * layer + 3 * is_projected * tokens * sizes.embedding_size * hidden)

    small, large = config.generator_config, config.discriminator_config
    head = 6 * chosen * small.embedding_size * (small.hidden_size + small.vocab_size)
    assert cost.flops(GENERATOR) == encoder(small) + head
    assert cost.flops(DISCRIMINATOR) == encoder(large) + 6 * tokens * large.hidden_size * (large.hidden_size + 1)


# Arguments: the folders of a joint checkpoint, a release and a mixed release.
_STRANGER = """
import json, os, torch, transformers
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoModelForPreTraining, AutoTokenizer
from transformers import AutoModelForSequenceClassification
from safetensors.torch import save_file
joint, release, mixed, tuned, out = sys.argv[1:]
generator = torch.Generator().manual_seed(0)
ids = torch.randint(5, 150, (3, 24), generator=generator)
for row, size in enumerate((24, 19, 14)):
    ids[row, 0], ids[row, size - 1], ids[row, size:] = 2, 3, 0
batch = {"input_ids": ids, "attention_mask": (ids != 0).long()}
flag, found, reports = {"trust_remote_code": True}, {}, []
os.environ["HF_HUB_OFFLINE"] = "1"
try:
    AutoModel.from_pretrained(release, trust_remote_code=False)
    raise SystemExit("it loads without the flag")
except ValueError as error:
    assert "trust_remote_code" in str(error), error
with torch.no_grad():
    for name, folder in (("joint", joint), ("release", release)):
        AutoTokenizer.from_pretrained(folder, **flag)
        model, info = AutoModel.from_pretrained(folder, output_loading_info=True, **flag)
        reports.append(sorted(info["missing_keys"]))
        found[name] = model(**batch).last_hidden_state
    for name, folder in (("generator", release), ("mixed", mixed)):
        model, info = AutoModelForMaskedLM.from_pretrained(
            folder, subfolder="generator", output_loading_info=True, **flag
        )
        reports.append(sorted(info["missing_keys"] | info["unexpected_keys"]))
        found[name] = model(**batch).logits
    AutoModelForSequenceClassification.from_pretrained(release, num_labels=2, **flag)
    found["tuned"] = AutoModelForSequenceClassification.from_pretrained(tuned, **flag)(**batch).logits
    pair = AutoModelForPreTraining.from_pretrained(release, **flag).eval()
    count = sys.modules[type(pair).__module__].number_of_uniforms(24, 0.3)
    uniforms = torch.rand(3, count, generator=torch.Generator().manual_seed(0))
    found["loss"] = pair(**batch, corruption_uniforms=uniforms).loss
    # What a stranger saves is as good as what it was given.
    pair.save_pretrained(out + "/again")
    again = AutoModelForPreTraining.from_pretrained(out + "/again", **flag).eval()
    found["again"] = again(**batch, corruption_uniforms=uniforms).loss
assert "modeling_electra_rtd" not in sys.modules and not any(reports), reports
save_file({name: value.contiguous() for name, value in found.items()}, out + "/found.safetensors")
"""


def test_checkpoints_bring_their_code_along(tmp_path):
    pair = gru_pair(mask_probability=0.3)
    mixed = gru_pair(discriminator=tiny_config("electra"), generator=tiny_gru_config(), embedding_sharing="none")
    for name, model in (("joint", pair), ("mixed-joint", mixed)):
        model.save_pretrained(tmp_path / name)
        tiny_tokenizer(tmp_path / name)
    export(str(tmp_path / "joint"), str(tmp_path / "release"))
    export(str(tmp_path / "mixed-joint"), str(tmp_path / "mixed"), remote_code=False)
    tuned = randomize(AutoModelForSequenceClassification.from_config(tiny_gru_config())).eval()
    tuned.save_pretrained(tmp_path / "tuned")
    code = {"document_gru.py", "gru_encoder.py"}
    for folder in ("joint", "mixed-joint", "mixed", "mixed/generator", "tuned", "release/generator"):
        assert {path.name for path in (tmp_path / folder).glob("*.py")} == code, folder
    for folder in ("release", "mixed", "tuned"):
        assert uploadable_files(tmp_path / folder)
    card = (tmp_path / "release" / "README.md").read_text(encoding="utf-8")
    assert "AutoModel.from_pretrained(name, trust_remote_code=True)" in card

    # With the package: no flag, nothing missing, and no word of the code in what it says of itself.
    for folder in ("joint", "release"):
        again, info = ElectraRtdForPreTraining.from_pretrained(tmp_path / folder, output_loading_info=True)
        assert not any(info.values())
        assert torch.equal(stepped(again).loss, stepped(pair).loss)
        assert again.generator.encoder.embeddings is again.encoder.embeddings
    encoder, info = AutoModel.from_pretrained(tmp_path / "release", output_loading_info=True)
    assert not info["missing_keys"] and type(encoder) is GruEncoderModel
    assert AutoConfig.from_pretrained(tmp_path / "tuned").to_diff_dict() == tuned.config.to_diff_dict()

    places = [str(tmp_path / name) for name in ("joint", "release", "mixed", "tuned")]
    done = subprocess.run(
        [sys.executable, "-I", "-c", REFUSE + _STRANGER, *places, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"},
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found, batch = load_file(tmp_path / "found.safetensors"), tiny_text()
    with torch.no_grad():
        expected = {
            "joint": pair.encoder(**batch).last_hidden_state,
            "release": pair.encoder(**batch).last_hidden_state,
            "generator": pair.generator(**batch).logits,
            "mixed": mixed.generator(**batch).logits,
            "tuned": tuned(**batch).logits,
            "loss": stepped(pair).loss,
            "again": stepped(pair).loss,
        }
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    assert json.loads((tmp_path / "mixed" / "config.json").read_text(encoding="utf-8")).get("auto_map") is None


def pretrained(folder, resume=None, steps=24, **arguments) -> ElectraRtdTrainer:
    torch.manual_seed(1)
    blocks = random_blocks(64)
    config = ElectraRtdConfig.from_discriminator(
        tiny_gru_config(vocab_size=60, hidden_dropout_prob=0.1), 0.5, mask_token_id=4, special_token_ids=[0, 2, 3, 4]
    )
    trainer = ElectraRtdTrainer(
        model=ElectraRtdForPreTraining(config),
        args=tiny_arguments(
            folder, max_steps=steps, learning_rate=5e-3, muon_learning_rate=0.02, weight_decay=0.1, **arguments
        ),
        train_dataset=IndexedBlocks(blocks),
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def test_pretraining_learns_and_resumes_bit_by_bit(tmp_path):
    straight = pretrained(tmp_path / "run", save_strategy="steps", save_steps=12)
    losses = [entry["loss"] for entry in straight.state.log_history if "loss" in entry]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    resumed = pretrained(tmp_path / "run", resume=str(tmp_path / "run" / "checkpoint-12"))
    state = resumed.model.state_dict()
    assert all(torch.equal(state[name], weight) for name, weight in straight.model.state_dict().items())


def test_fine_tuning_learns(tmp_path):
    gru_pair(discriminator=tiny_gru_config(bidirectional=False)).save_pretrained(tmp_path / "pair")
    tiny_tokenizer(tmp_path / "pair")
    texts = ["the cat sat", "a cat sat on the mat", "the dog sat", "on the mat a dog sat"] * 4
    task = TASKS["sst2"]
    classification = SequenceClassification(task, tuple(task.labels), tiny_tokenizer(), 32)
    choices = MultipleChoice(TASKS["swag"], (), tiny_tokenizer(), 32)
    rows = [
        {"context": "the cat", "question": "", "choices": ["sat on a mat", "w4"][:: 1 - 2 * (i % 2)], "label": i % 2}
        for i in range(12)
    ]
    cases = (
        (classification, Dataset.from_dict({"sentence": texts, "label": [0, 0, 1, 1] * 4})),
        (choices, Dataset.from_list(rows)),
    )
    for kind, examples in cases:
        model = kind.load_model(str(tmp_path / "pair"))
        folder = tmp_path / kind.task.name
        trainer = trainer_of(kind, model, examples, folder, max_steps=20, learning_rate=1e-2, layerwise_lr_decay=0.8)
        trainer.train()
        features = kind.features(examples, training=False)
        outputs = trainer.predict(features.remove_columns("labels")).predictions
        assert kind.metrics(kind.predictions(outputs, features, examples), examples)["accuracy"] == 1
    exponents = learning_rate_exponents(model)
    assert exponents["gru_encoder.layers.1.gru.weight_hh_l0"] == 1
    assert exponents["gru_encoder.embeddings.word_embeddings.weight"] == 3
