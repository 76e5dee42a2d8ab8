"""Every objective against its loss written out with stock models, and the combinations that are refused."""

import math

import pytest
import torch
from helpers.tiny import (
    FAMILIES,
    MASK,
    OBJECTIVE,
    stock_discriminator_logits,
    tiny_electra_config,
    tiny_pair,
    tiny_text,
    uniforms_for,
)
from torch.nn import functional
from transformers import AutoModelForMaskedLM

from modeling_electra_rtd import ElectraRtdConfig, ElectraRtdForPreTraining
from modeling_electra_rtd.model.corruption import (
    candidate_positions,
    choose_positions,
    drawing_bias,
    mask_tokens,
    split_uniforms,
)
from modeling_electra_rtd.model.objectives import OBJECTIVES, token_losses


def step(model):
    """A batch, the step's output, and what was chosen and masked."""
    batch = tiny_text()
    ids = batch["input_ids"]
    uniforms = uniforms_for(ids)
    output = model(**batch, corruption_uniforms=uniforms)
    to_choose, to_mask, _, _ = split_uniforms(uniforms, ids.shape[1])
    candidates = candidate_positions(ids, batch["attention_mask"].bool(), model.special_token_ids)
    chosen = choose_positions(candidates, 0.15, to_choose)
    assert torch.equal(output.loss_terms, model.count_loss_terms(**batch))
    return batch, output, candidates, mask_tokens(ids, chosen, MASK, 0.85, to_mask)


@pytest.mark.parametrize("compiled", [False, True])
def test_losses_of_tokens_are_cross_entropy_and_so_is_their_gradient(compiled):
    generator = torch.Generator().manual_seed(2)
    scores = torch.randn(5, 40, generator=generator).mul(4)
    scores[0, 7], scores[1, 3:] = -math.inf, -math.inf  # tokens that cannot stand there
    ids = torch.tensor([6, 2, 0, 39, 17])
    weights = torch.tensor([1.0, -2.0, 0.0, 0.5, 3.0])

    def weighted(losses):
        return (losses * weights).sum()

    expected, found = (scores.clone().requires_grad_() for _ in range(2))
    losses = functional.cross_entropy(expected, ids, reduction="none")
    weighted(losses).backward()
    ours = torch.compile(token_losses, backend="aot_eager") if compiled else token_losses
    computed, normalizers = ours(found, ids)
    weighted(computed).backward()
    torch.testing.assert_close(computed, losses)
    torch.testing.assert_close(found.grad, expected.grad)
    assert (expected.grad[3] > 0).any() and expected.grad[3, 39] < 0
    torch.testing.assert_close(found - normalizers, scores.log_softmax(dim=-1))
    assert not normalizers.requires_grad


def stock_masked_lm(model):
    """The stock masked-LM model with the discriminator's weights; a missing key is an error."""
    stock = AutoModelForMaskedLM.from_config(model.config.discriminator_config).eval()
    wanted = stock.state_dict()
    stock.load_state_dict({name: value for name, value in model.state_dict().items() if name in wanted})
    return stock


@pytest.mark.parametrize("family", FAMILIES)
def test_mlm_is_the_stock_loss_over_the_chosen_tokens(family):
    model = tiny_pair(family, objective="mlm")
    batch, output, _, masked = step(model)
    labels = torch.where(output.is_chosen, batch["input_ids"], -100)
    stock = stock_masked_lm(model)(masked, attention_mask=batch["attention_mask"], labels=labels)
    torch.testing.assert_close(output.loss, stock.loss)
    assert torch.equal(output.corrupted_input_ids, masked) and (masked == MASK).any()
    assert torch.equal(output.is_recovered, (stock.logits.argmax(-1) == labels) & output.is_chosen)
    assert not any(name.startswith("generator.") for name in model.state_dict())
    assert set(output) >= {"masked_lm_loss"} and not {"generator_loss", "discriminator_loss", "logits"} & set(output)


@pytest.mark.parametrize("family", FAMILIES)
def test_replace_mlm_reads_samples_and_predicts_the_chosen_tokens(family):
    model = tiny_pair(family, objective="replace_mlm", masked_lm_loss_weight=3)
    batch, output, _, _ = step(model)
    labels = torch.where(output.is_chosen, batch["input_ids"], -100)
    assert (output.corrupted_input_ids != batch["input_ids"]).any() and not (output.corrupted_input_ids == MASK).any()
    stock = stock_masked_lm(model)(output.corrupted_input_ids, attention_mask=batch["attention_mask"], labels=labels)
    torch.testing.assert_close(output.masked_lm_loss, stock.loss)
    torch.testing.assert_close(output.loss, output.generator_loss + 3 * stock.loss)


@pytest.mark.parametrize("family", FAMILIES)
def test_rtd_15_is_rtd_over_the_chosen_tokens(family):
    model = tiny_pair(family, objective="rtd_15")
    batch, output, _, _ = step(model)
    logits = stock_discriminator_logits(model, output.corrupted_input_ids, batch["attention_mask"])[output.is_chosen]
    labels = output.is_replaced[output.is_chosen].float()
    assert 0 < labels.sum()
    loss = functional.binary_cross_entropy_with_logits(logits, labels)
    torch.testing.assert_close(output.discriminator_loss, loss)
    torch.testing.assert_close(output.loss, output.generator_loss + 50 * loss)


def test_rtd_mlm_is_both():
    model = tiny_pair("electra", objective="rtd_mlm", masked_lm_loss_weight=2)
    batch, output, _, _ = step(model)
    tokens = batch["attention_mask"].bool()
    stock = stock_masked_lm(model)
    hidden = stock.electra(output.corrupted_input_ids, attention_mask=batch["attention_mask"]).last_hidden_state
    logits = model.discriminator_predictions(hidden)
    detection = functional.binary_cross_entropy_with_logits(logits[tokens], output.is_replaced[tokens].float())
    labels = torch.where(output.is_chosen, batch["input_ids"], -100)
    masked_lm = stock(output.corrupted_input_ids, attention_mask=batch["attention_mask"], labels=labels).loss
    torch.testing.assert_close(output.discriminator_loss, detection)
    torch.testing.assert_close(output.masked_lm_loss, masked_lm)
    torch.testing.assert_close(output.loss, output.generator_loss + 50 * detection + 2 * masked_lm)


@pytest.mark.parametrize("rows", [3, 1024], ids=["in shares", "at once"])
def test_all_tokens_mlm_mixes_copying_and_predicting(rows, monkeypatch):
    monkeypatch.setattr("modeling_electra_rtd.model.objectives._ROWS_OF_LOGITS", rows)
    model = tiny_pair("electra", objective="all_tokens_mlm", generator_loss_weight=0, embedding_sharing="none")
    batch, output, _, _ = step(model)
    ids, read, tokens = batch["input_ids"], output.corrupted_input_ids, batch["attention_mask"].bool()
    stock = stock_masked_lm(model)
    probs = stock(read, attention_mask=batch["attention_mask"]).logits.softmax(-1)
    hidden = stock.electra(read, attention_mask=batch["attention_mask"]).last_hidden_state
    copies = torch.sigmoid(-model.discriminator_predictions(hidden))[..., None]
    mixed = (1 - copies) * probs + copies * functional.one_hot(read, probs.shape[-1])
    expected = -mixed.gather(-1, ids[..., None]).squeeze(-1).log()[tokens].mean()
    torch.testing.assert_close(output.masked_lm_loss, expected)
    assert torch.equal(output.is_recovered, (mixed.argmax(-1) == ids) & output.is_chosen)
    stock_weights = dict(stock.electra.named_parameters())
    expected_gradients = torch.autograd.grad(expected, list(stock_weights.values()))
    own = dict(model.encoder.named_parameters())
    gradients = torch.autograd.grad(output.loss, [own[name] for name in stock_weights])
    for name, gradient, wanted in zip(stock_weights, gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, wanted, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("kind", ["uniform", "two_tower"])
def test_electric_is_noise_contrastive_estimation_over_the_candidates(kind):
    model = tiny_pair("electra", objective="electric", generator_kind=kind)
    batch, output, candidates, _ = step(model)
    read = output.corrupted_input_ids
    energies = stock_discriminator_logits(model, read, batch["attention_mask"])
    if kind == "uniform":
        noise = torch.full(read.shape, -math.log(model.config.vocab_size - len(OBJECTIVE["special_token_ids"])))
    else:
        to_choose = split_uniforms(uniforms_for(read), read.shape[1])[0]
        chosen = choose_positions(candidates, 0.15, to_choose)
        mask = {"attention_mask": batch["attention_mask"]}
        bias = drawing_bias(model.config.vocab_size, None, model.special_token_ids)
        proposal = model.generator.propose(batch["input_ids"], None, chosen, candidates, bias, **mask)
        noise = torch.where(output.is_chosen, output.sampled_log_probs, proposal.text_log_probs)
    losses = []
    for row, position in candidates.nonzero().tolist():
        # The model's unnormalised probability against 15 parts of noise in 100.
        model_share = 0.85 * math.exp(-energies[row, position])
        noise_share = 0.15 * math.exp(noise[row, position])
        is_noise = output.is_chosen[row, position]
        losses.append(-math.log((noise_share if is_noise else model_share) / (model_share + noise_share)))
    assert output.discriminator_loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_masked_language_model_becomes_both_networks_of_a_pair(family, tmp_path):
    first = tiny_pair(family, objective="mlm")
    first.save_pretrained(tmp_path)
    pair = ElectraRtdForPreTraining.from_pair(tmp_path, generator=tmp_path, objective=OBJECTIVE).eval()
    text = tiny_text()
    expected = stock_masked_lm(first)(**text)
    # In padding, local layers of a CPU's own attention say something else.
    tokens = text["attention_mask"].bool()
    torch.testing.assert_close(pair.generator(**text).logits[tokens], expected.logits[tokens], atol=1e-5, rtol=1e-5)
    states = [network(**text).last_hidden_state[tokens] for network in (pair.encoder, first.encoder)]
    torch.testing.assert_close(*states, atol=1e-5, rtol=1e-5)
    assert pair.config.objective == "rtd" and pair.config.embedding_sharing == "tied"
    assert pair(**text).discriminator_loss.isfinite()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"objective": "electric"}, "two_tower"),
        ({"objective": "mlm", "generator_kind": "uniform"}, "without a generator"),
        ({"objective": "mlm", "embedding_sharing": "gdes"}, "without a second network"),
        ({"objective": "rtd_mlm", "embedding_sharing": "gdes"}, "masked-LM head"),
        ({"objective": "electric", "generator_kind": "uniform", "disallow_correct": True}, "disallow_correct"),
        (
            {"objective": "electric", "generator_kind": "uniform", "mask_probability": 1},
            "mask_probability 1: noise-contrast",
        ),
        (
            {"objective": "electric", "generator_kind": "uniform", "sampling_temperature": 2.0},
            "sampling_temperature 2",
        ),
        ({"generator_kind": "two_tower", "embedding_sharing": "all"}, "one direction"),
        ({"freeze_generator": True}, "'none' or 'gdes'"),
        ({"objective": "mlm", "disallow_correct": True}, "nothing is drawn without a generator"),
        ({"freeze_generator": True, "embedding_sharing": "none", "generator_feedback": "reinforce"}, "frozen"),
        ({"objective": "replace_mlm", "generator_feedback": "reinforce"}, "generator_feedback"),
        ({"objective": "rdt"}, "did you mean 'rtd'"),
        ({"embedding_sharing": "gdse"}, "did you mean 'gdes'"),
    ],
)
def test_combinations_that_make_no_sense_are_refused_with_the_reason(fields, reason):
    with pytest.raises(ValueError, match=reason) as error:
        ElectraRtdConfig.from_discriminator(tiny_electra_config(), **OBJECTIVE, **fields)
    assert len(str(error.value).splitlines()) == 1


def test_every_objective_has_a_test_here():
    text = open(__file__).read()
    assert all(f'objective="{name}"' in text for name in OBJECTIVES if name != "rtd")
