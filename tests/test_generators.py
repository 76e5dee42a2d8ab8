"""Generators beside the masked-LM one (tests/test_modeling_electra_rtd.py): two towers, tables, frozen ones."""

import pytest
import torch
from tiny import FAMILIES, OBJECTIVE, SPECIAL, VOCABULARY, tiny_packed, tiny_pair, tiny_text, uniforms_for

from modeling_electra_rtd import ElectraRtdForPreTraining
from modeling_electra_rtd.corruption import candidate_positions, choose_positions


def proposal_of(model, input_ids, **inputs):
    """What a generator proposes, and the candidates."""
    tokens = inputs["document_ids"] > 0 if "document_ids" in inputs else inputs["attention_mask"].bool()
    candidates = candidate_positions(input_ids, tokens, model.special_token_ids)
    chosen = choose_positions(
        candidates, 0.15, torch.rand(input_ids.shape, generator=torch.Generator().manual_seed(1))
    )
    return model.generator.propose(input_ids, None, chosen, candidates, **inputs), candidates, chosen


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
        left = towers.encode(towers.left_to_right, before, None, torch.ones_like(before), reads="left")[:, -1]
        # Positions are counted from the start of the text.
        rest = {"position_ids": torch.arange(position + 1, ids.shape[1])[None]}
        right = towers.encode(towers.right_to_left, after, None, torch.ones_like(after), reads="right", **rest)
        states = towers.norm(towers.activation(towers.dense(torch.cat([left, right[:, 0]], dim=-1))))
        expected = towers._logits(states).log_softmax(-1)[0]
        assert proposal.text_log_probs[0, position].item() == pytest.approx(
            expected[ids[0, position]].item(), abs=1e-5
        )
        for slot in (chosen.positions[0] == position).nonzero().flatten().tolist():
            log_probs = proposal.scores[slot] - proposal.log_normalizers[slot]
            torch.testing.assert_close(log_probs, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(proposal.losses, -proposal.text_log_probs * candidates)


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
    probs = (proposal.scores - proposal.log_normalizers).exp()
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
