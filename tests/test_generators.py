"""Generators beside the masked-LM one (tests/test_modeling_electra_rtd.py): two towers, tables, frozen ones."""

import json
import re

import pytest
import torch
from helpers.slow_step import assert_equal_outputs, slow_step
from helpers.tiny import (
    FAMILIES,
    OBJECTIVE,
    SPECIAL,
    VOCABULARY,
    tiny_config,
    tiny_packed,
    tiny_pair,
    tiny_text,
    tiny_tokenizer,
    uniforms_for,
)

from modeling_electra_rtd import ElectraRtdConfig, ElectraRtdForPreTraining
from modeling_electra_rtd.model.corruption import candidate_positions, choose_positions, drawing_bias


def proposal_of(model, input_ids, **inputs):
    """What a generator proposes, and the candidates."""
    tokens = inputs["document_ids"] > 0 if "document_ids" in inputs else inputs["attention_mask"].bool()
    candidates = candidate_positions(input_ids, tokens, model.special_token_ids)
    chosen = choose_positions(
        candidates, 0.15, torch.rand(input_ids.shape, generator=torch.Generator().manual_seed(1))
    )
    bias = drawing_bias(model.config.vocab_size, model.config.number_of_tokens, model.special_token_ids)
    return model.generator.propose(input_ids, None, chosen, candidates, bias, **inputs), candidates, chosen


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_two_towers_know_a_token_from_what_stands_around_it(family):
    """Each tower is given only its side of the text, which no mask can leak through."""
    model = tiny_pair(family, generator_kind="two_tower")
    text = tiny_text(rows=1, length=12)
    ids, towers = text["input_ids"], model.generator
    proposal, candidates, chosen = proposal_of(model, **text)
    for position in candidates[0].nonzero().flatten().tolist():
        before, after = ids[:, :position], ids[:, position + 1 :]
        left = towers.encode(towers.left_to_right, before, None, torch.ones_like(before), context="left")[:, -1]
        # Positions are counted from the start of the text.
        rest = {"position_ids": torch.arange(position + 1, ids.shape[1])[None]}
        right = towers.encode(towers.right_to_left, after, None, torch.ones_like(after), context="right", **rest)
        states = towers.norm(towers.activation(towers.dense(torch.cat([left, right[:, 0]], dim=-1))))
        expected = towers._logits(states).log_softmax(-1)[0]
        token = ids[0, position]
        assert proposal.losses[0, position].item() == pytest.approx(-expected[token].item(), abs=1e-5)
        drawn = expected.exp()
        drawn[SPECIAL] = 0
        noise = (drawn[token] / drawn.sum()).log().item()
        assert proposal.text_log_probs[0, position].item() == pytest.approx(noise, abs=1e-5)
        for slot in (chosen.positions[0] == position).nonzero().flatten().tolist():
            torch.testing.assert_close(proposal.scores[slot].log_softmax(-1), expected, atol=1e-5, rtol=1e-5)
    assert (proposal.losses[~candidates] == 0).all()


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_two_towers_do_not_see_another_document(family):
    model, packed = tiny_pair(family, generator_kind="two_tower"), tiny_packed()
    ids = packed["input_ids"]
    whole = proposal_of(model, **packed)[0]
    for number in (1, 2):
        own = packed["document_ids"][0] == number
        alone = proposal_of(model, ids[:, own], attention_mask=torch.ones_like(ids[:, own]))[0]
        torch.testing.assert_close(whole.text_log_probs[:, own], alone.text_log_probs, atol=1e-5, rtol=1e-5)


def test_a_uniform_table_draws_every_token_but_the_special_ones():
    model = tiny_pair("electra", generator_kind="uniform")
    proposal, _, chosen = proposal_of(model, **tiny_text())
    probs = proposal.scores.exp()
    assert probs.shape == (chosen.positions.numel(), VOCABULARY) and (probs[:, SPECIAL] == 0).all()
    others = [token for token in range(VOCABULARY) if token not in SPECIAL]
    assert torch.allclose(probs[:, others], torch.tensor(1 / len(others)))
    before = model.generator.token_counts.clone()
    model.train()(**tiny_text())
    assert torch.equal(model.generator.token_counts, before)


def test_a_unigram_table_counts_what_it_has_seen_in_training(tmp_path):
    model, text = tiny_pair("electra", generator_kind="unigram"), tiny_text()
    model(**text)
    assert model.generator.token_counts.max() == 1
    model.train()
    for _ in range(2):
        model(**text)
    ids = text["input_ids"][text["attention_mask"].bool()]
    expected = torch.ones(VOCABULARY).long() + 2 * torch.bincount(ids, minlength=VOCABULARY)
    expected[SPECIAL] = 0
    assert torch.equal(model.generator.token_counts, expected)
    model.save_pretrained(tmp_path)
    loaded = ElectraRtdForPreTraining.from_pretrained(tmp_path)
    assert torch.equal(loaded.generator.token_counts, expected)
    uniforms = uniforms_for(text["input_ids"])
    torch.testing.assert_close(
        loaded(**text, corruption_uniforms=uniforms).loss, model.eval()(**text, corruption_uniforms=uniforms).loss
    )


def test_disallowing_the_correct_token_replaces_every_chosen_one():
    text = tiny_text()
    for disallowed in (False, True):
        # At a high temperature every token is as likely as another, the text's among them.
        model = tiny_pair("electra", encoder={"vocab_size": 8}, disallow_correct=disallowed, sampling_temperature=1e6)
        ids = torch.where(text["input_ids"] > 4, 5 + text["input_ids"] % 3, text["input_ids"])
        output = model(ids, text["attention_mask"], corruption_uniforms=uniforms_for(ids))
        assert torch.equal(output.is_replaced, output.is_chosen) == disallowed


@pytest.mark.parametrize("sharing", ["none", "gdes"])
def test_a_frozen_generator_stays_as_it_was_loaded(sharing):
    pair = tiny_pair("electra", embedding_sharing="none", encoder={"hidden_dropout_prob": 0.5})
    fields = {**OBJECTIVE, "freeze_generator": True}
    model = ElectraRtdForPreTraining.from_pair(pair, pair.generator, embedding_sharing=sharing, objective=fields)
    before = {name: value.clone() for name, value in model.generator.state_dict().items()}
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    text, uniforms = tiny_text(), uniforms_for(tiny_text()["input_ids"])
    outputs = []
    for _ in range(3):
        outputs.append(model(**text, corruption_uniforms=uniforms))
        outputs[-1].loss.backward()
        optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in model.generator.state_dict().items())
    # No dropout in it either: what it proposes does not change from step to step.
    assert len({output.generator_loss.item() for output in outputs}) == 1
    assert outputs[0].discriminator_loss > outputs[-1].discriminator_loss
    with pytest.raises(ValueError, match="freeze_generator needs a generator that has learned"):
        ElectraRtdForPreTraining.from_pair(pair.encoder, embedding_sharing=sharing, objective=fields)


@pytest.mark.parametrize("sharing", ["none", "gdes"])
def test_a_frozen_generator_is_frozen_when_it_is_read_again(sharing, tmp_path):
    tiny_pair("electra", embedding_sharing=sharing, freeze_generator=True).save_pretrained(tmp_path)
    model = ElectraRtdForPreTraining.from_pretrained(tmp_path)
    for _ in range(2):
        assert not any(parameter.requires_grad for parameter in model.generator.parameters())
        assert all(parameter.requires_grad for parameter in model.encoder.parameters())
        model.train()
        assert not model.generator.training and model.encoder.training
        model.resize_token_embeddings(VOCABULARY + 2)


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_two_towers_do_not_see_padding(family):
    model, text = tiny_pair(family, generator_kind="two_tower"), tiny_text()
    padded = proposal_of(model, **text)[0].text_log_probs
    for row, mask in enumerate(text["attention_mask"].bool()):
        alone = {name: values[row : row + 1, mask] for name, values in text.items()}
        torch.testing.assert_close(
            padded[row : row + 1, mask], proposal_of(model, **alone)[0].text_log_probs, atol=1e-5, rtol=1e-5
        )


def test_a_generator_of_another_kind_is_no_start():
    pair = tiny_pair("electra", embedding_sharing="none")
    with pytest.raises(ValueError, match="generator_kind is 'two_tower', but the given generator is"):
        ElectraRtdForPreTraining.from_pair(pair, pair.generator, objective=OBJECTIVE | {"generator_kind": "two_tower"})


UNKNOWN, TOKENS = 1, VOCABULARY - 10
NEVER_DRAWN = [*SPECIAL, *range(TOKENS, VOCABULARY)]
KINDS = ("masked_lm", "two_tower", "unigram", "uniform")


def biased_pair(kind: str, bias: float, **objective):
    """A pair whose generator wants to put special tokens, and rows that are no token, everywhere; then `[UNK]`."""
    objective = {"mask_probability": 1.0, **objective}
    model = tiny_pair("electra", generator_kind=kind, number_of_tokens=TOKENS, **objective)
    if kind in ("masked_lm", "two_tower"):
        output = model.generator.get_output_embeddings() if kind == "masked_lm" else model.generator
        with torch.no_grad():
            output.bias[NEVER_DRAWN] = bias
            output.bias[UNKNOWN] = 8.0
    return model


@torch.no_grad()
@pytest.mark.parametrize("bias", [5.0, 500.0])
@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_and_rows_that_are_no_token_are_never_drawn(kind, bias):
    model, text = biased_pair(kind, bias), tiny_text()
    drawn = []
    for seed in range(20):
        output = model(**text, corruption_uniforms=uniforms_for(text["input_ids"], 1.0, seed))
        drawn.append(output.corrupted_input_ids[output.is_chosen])
        assert output.sampled_log_probs.isfinite().all() and output.loss.isfinite()
    drawn = torch.cat(drawn)
    assert not torch.isin(drawn, torch.tensor(NEVER_DRAWN)).any()
    # It stands for a word.
    assert (drawn == UNKNOWN).any()


@torch.no_grad()
@pytest.mark.parametrize("disallow_correct", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_drawn_has_the_probability_that_is_said(kind, disallow_correct):
    """Rows of one text, whose uniform numbers divide [0, 1) evenly: a token of probability p is drawn p times."""
    model = biased_pair(kind, 3.0, disallow_correct=disallow_correct)
    rows, ids = 2000, torch.tensor([[2, 20, 3]])
    uniforms = uniforms_for(ids, 1.0).expand(rows, -1).clone()
    uniforms[:, -3:] = ((torch.arange(rows) + 0.5) / rows)[:, None]
    output = model(ids.expand(rows, -1), corruption_uniforms=uniforms)
    drawn, said = output.corrupted_input_ids[:, 1], output.sampled_log_probs[:, 1].exp().double()
    of_token = {token: said[drawn == token][0].item() for token in set(drawn.tolist())}
    if disallow_correct:
        # Said is what the generator gave it before the text's own token was left out.
        assert 20 not in of_token
        total = sum(of_token.values())
        of_token = {token: value / total for token, value in of_token.items()}
    for token, probability in of_token.items():
        assert (drawn == token).sum().item() / rows == pytest.approx(
            probability, abs=2 / rows + 0.02 * disallow_correct
        )
    assert sum(of_token.values()) == pytest.approx(1, abs=0.1)


@torch.no_grad()
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_a_biased_generator_equals_the_slow_step(temperature):
    """Its loss is still over the whole vocabulary."""
    model, batch = biased_pair("masked_lm", 3.0), tiny_text()
    uniforms = uniforms_for(batch["input_ids"], 1.0)
    expected = slow_step(model, **batch, uniforms=uniforms, temperature=temperature)
    found = model(**batch, corruption_uniforms=uniforms, sampling_temperature=temperature)
    assert_equal_outputs(found, expected, 1e-4)


@pytest.mark.parametrize("feedback", ["reinforce", "gumbel_softmax"])
def test_feedback_learns_of_what_may_be_drawn_alone(feedback):
    # Without its own loss, tokens that are never drawn get no gradient.
    model = biased_pair("masked_lm", 30.0, generator_feedback=feedback, generator_loss_weight=0.0)
    text = tiny_text()
    output = model(**text, corruption_uniforms=uniforms_for(text["input_ids"], 1.0))
    assert not torch.isin(output.corrupted_input_ids[output.is_chosen], torch.tensor(NEVER_DRAWN)).any()
    output.loss.backward()
    gradient = model.generator.get_output_embeddings().bias.grad
    assert gradient.isfinite().all() and gradient.abs().sum() > 0
    assert (gradient[NEVER_DRAWN] == 0).all()


@torch.no_grad()
def test_electric_knows_the_noise_that_it_draws():
    """The same loss from the two towers' logits by hand, over what may be drawn."""
    model = biased_pair("two_tower", 3.0, objective="electric", mask_probability=0.5)
    text = tiny_text()
    ids = text["input_ids"]
    output = model(**text, corruption_uniforms=uniforms_for(ids, 0.5))
    states = []
    model.generator.norm.register_forward_hook(lambda module, inputs, result: states.append(result))
    model(**text, corruption_uniforms=uniforms_for(ids, 0.5))
    logits = model.generator._logits(states[0])
    logits[..., NEVER_DRAWN] = -torch.inf
    noise = logits.log_softmax(-1).gather(-1, output.corrupted_input_ids[..., None])[..., 0]
    # The text has ids that the noise never makes; a loss of 0, but infinity times 0 is not.
    noise = noise.clamp(min=torch.finfo(torch.float32).min)
    candidates = candidate_positions(ids, text["attention_mask"].bool(), model.special_token_ids)
    chosen = output.is_chosen
    torch.testing.assert_close(output.sampled_log_probs[chosen], noise[chosen], atol=1e-5, rtol=1e-5)
    # Even odds: half of the candidates are noise. What the output calls logits is what the loss was of.
    energies = model.discriminate(output.corrupted_input_ids, attention_mask=text["attention_mask"])
    losses = torch.nn.functional.binary_cross_entropy_with_logits(
        (energies + noise)[candidates], chosen[candidates].float()
    )
    torch.testing.assert_close(output.discriminator_loss, losses, atol=1e-4, rtol=1e-4)


def test_a_uniform_noise_that_lacks_a_token_of_the_text_gives_a_finite_loss():
    model = biased_pair("uniform", 0.0, objective="electric", mask_probability=0.5)
    ids = tiny_text(1)["input_ids"]
    ids[0, 3] = TOKENS
    output = model(ids, corruption_uniforms=uniforms_for(ids, 0.5))
    assert output.loss.isfinite()


def test_the_number_of_tokens_is_the_tokenizers(tmp_path):
    tokenizer = tiny_tokenizer()
    config = ElectraRtdConfig.from_discriminator(tiny_config("electra", vocab_size=192), tokenizer=tokenizer)
    assert config.number_of_tokens == VOCABULARY
    model = ElectraRtdForPreTraining(config)
    model.save_pretrained(tmp_path)
    again = ElectraRtdForPreTraining.from_pretrained(tmp_path)
    assert again.config.number_of_tokens == VOCABULARY
    assert ElectraRtdForPreTraining.from_pair(tmp_path).config.number_of_tokens == VOCABULARY
    again.resize_token_embeddings(195, pad_to_multiple_of=64)
    assert (again.config.number_of_tokens, again.config.vocab_size) == (195, 256)
    # Written before there was such a field.
    values = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    del values["electra_rtd"]["number_of_tokens"]
    (tmp_path / "config.json").write_text(json.dumps(values), encoding="utf-8")
    old = ElectraRtdForPreTraining.from_pretrained(tmp_path)
    assert old.config.number_of_tokens is None and old(**tiny_text()).loss.isfinite()


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (0, "number_of_tokens is 0; it must be at least 1"),
        (1, "number_of_tokens is 1 in a vocabulary of 150; it must leave 1 or more tokens that are not special"),
    ],
)
def test_a_vocabulary_without_a_token_to_draw_is_refused(number, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        tiny_pair("electra", number_of_tokens=number)
