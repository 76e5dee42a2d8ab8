"""What a generator learns from the discriminator: gradients against exact ones, and training with them."""

import copy
import json

import pytest
import torch
from helpers.blocks import random_blocks, tiny_arguments, tiny_joint_model
from helpers.tiny import (
    ALL_FAMILIES,
    FAMILIES,
    MASK,
    SPECIAL,
    stock_discriminator_logits,
    tiny_packed,
    tiny_pair,
    tiny_text,
    uniforms_for,
)
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from transformers import ElectraConfig

from modeling_electra_rtd import ElectraRtdForPreTraining, ElectraRtdTrainer
from modeling_electra_rtd.model.corruption import (
    ChosenPositions,
    candidate_positions,
    choose_positions,
    mask_tokens,
    split_uniforms,
)
from modeling_electra_rtd.model.feedback import PolicyGradient, check_reads_embeddings, relaxed_samples
from modeling_electra_rtd.release.write import write_release


KINDS = ("reinforce", "gumbel_softmax")
# The generator learns from the feedback alone, and nothing of it is the discriminator's.
ALONE = {"generator_loss_weight": 0, "embedding_sharing": "none"}


def step(model, batch=None, seed=0):
    """A forward and a backward pass; the output, and the gradients by name."""
    batch = tiny_text() if batch is None else batch
    model.zero_grad()
    output = model(**batch, corruption_uniforms=uniforms_for(batch["input_ids"], seed=seed))
    output.loss.backward()
    return output, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def masked(model, batch, seed=0):
    """The chosen positions, and the ids that the generator reads."""
    ids = batch["input_ids"]
    to_choose, to_mask, *_ = split_uniforms(uniforms_for(ids, seed=seed), ids.shape[1])
    candidates = candidate_positions(ids, batch["attention_mask"].bool(), model.special_token_ids)
    chosen = choose_positions(candidates, 0.15, to_choose)
    return chosen, mask_tokens(ids, chosen, MASK, 0.85, to_mask)


def drawn_from(model, batch, temperature=1.0, disallow_correct=False):
    """What is drawn from at the chosen positions, `(batch * k, vocab_size)` as logits, and these positions."""
    ids = batch["input_ids"]
    chosen, shown = masked(model, batch)
    logits = model.generator(shown, batch["attention_mask"], positions=chosen.positions).logits.flatten(0, 1)
    logits = logits.masked_fill(torch.isin(torch.arange(logits.shape[1]), torch.tensor(SPECIAL)), -torch.inf)
    if disallow_correct:
        logits = logits.scatter(1, ids.gather(1, chosen.positions).view(-1, 1), -torch.inf)
    return logits / temperature, chosen


def generator_gradients(model, surrogate):
    """By name, those of a scalar."""
    named = dict(model.generator.named_parameters())
    gradients = torch.autograd.grad(surrogate, list(named.values()), allow_unused=True)
    return {f"generator.{name}": value for name, value in zip(named, gradients, strict=True) if value is not None}


def test_the_policy_gradient_is_exact_in_expectation():
    """Over all tokens that can be drawn, each as often as it is: the gradient of the expected reward."""
    torch.manual_seed(0)
    logits, rewards = torch.randn(2, 5, requires_grad=True), torch.rand(2, 5) * 3
    chosen = ChosenPositions(torch.tensor([[3, 7]]), torch.tensor([[1.0, 0.0]]))
    feedback = PolicyGradient(4)
    feedback.baseline.data.normal_()
    states = torch.randn(1, 2, 4, requires_grad=True)
    probs = logits.softmax(-1)
    total, value = 0, 0
    for token in range(5):
        sampled = torch.full((1, 2), token)
        losses = feedback(states, logits, sampled, rewards[:, token].view(1, 2), chosen)
        assert losses[0, 1] == 0
        total = total + (losses[0] * probs[:, token].detach()).sum()
        truth = (-rewards[0, token]).exp()
        expected = (states[0, 0] @ feedback.baseline).sigmoid()
        value -= probs[0, token] * (truth * expected.log() + (1 - truth) * (1 - expected).log())
    torch.testing.assert_close(total, value)
    (found,) = torch.autograd.grad(total, logits, retain_graph=True)
    (exact,) = torch.autograd.grad(-(probs[0] * rewards[0]).sum(), logits)
    torch.testing.assert_close(found, exact)
    assert found[0].abs().max() > 0.05
    # The baseline learns from its own loss only, and does not move what it reads.
    of_baseline, of_states = torch.autograd.grad(total, [feedback.baseline, states], allow_unused=True)
    torch.testing.assert_close(of_baseline, torch.autograd.grad(value, feedback.baseline)[0])
    assert of_states is None


def test_the_baseline_learns_what_to_expect():
    torch.manual_seed(0)
    feedback, states = PolicyGradient(8), torch.randn(1, 3, 8)
    rewards, chosen = torch.tensor([[0.05, 0.7, 2.5]]), ChosenPositions(torch.arange(3)[None], torch.ones(1, 3))
    optimizer = torch.optim.LBFGS(feedback.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def losses():
        optimizer.zero_grad()
        loss = feedback(states, torch.zeros(3, 5), torch.zeros(1, 3, dtype=torch.int64), rewards, chosen).sum()
        loss.backward()
        return loss

    optimizer.step(losses)
    expected = -functional.logsigmoid(states @ feedback.baseline.detach())
    torch.testing.assert_close(expected, rewards, atol=0.01, rtol=0.01)


@pytest.mark.parametrize(("temperature", "disallow_correct"), [(1.0, False), (2.0, True)])
def test_reinforce_in_a_step_by_hand(temperature, disallow_correct):
    drawing = {"sampling_temperature": temperature, "disallow_correct": disallow_correct}
    model = tiny_pair("electra", generator_feedback="reinforce", generator_feedback_weight=3, **ALONE, **drawing)
    batch = tiny_text()
    output, gradients = step(model, batch)
    to_draw, chosen = drawn_from(model, batch, temperature, disallow_correct)
    with torch.no_grad():
        logits = stock_discriminator_logits(model, output.corrupted_input_ids, batch["attention_mask"])
        truth = torch.where(output.is_replaced, logits.sigmoid(), 1 - logits.sigmoid()).gather(1, chosen.positions)
        shown = masked(model, batch)[1]
        hidden = model.generator.electra(shown, attention_mask=batch["attention_mask"]).last_hidden_state
        states = hidden.gather(1, chosen.positions[..., None].expand(-1, -1, hidden.shape[-1]))
        baseline = -(states @ model.feedback.baseline).sigmoid().log()
    sampled = output.corrupted_input_ids.gather(1, chosen.positions)
    log_probs = to_draw.log_softmax(-1).gather(1, sampled.view(-1, 1)).view(sampled.shape)
    surrogate = -((-truth.log() - baseline) * log_probs)[chosen.weights > 0].mean()
    for name, expected in generator_gradients(model, 3 * surrogate).items():
        torch.testing.assert_close(gradients[name], expected, atol=1e-6, rtol=1e-4)
    entropy = functional.binary_cross_entropy(torch.exp(-baseline), truth, reduction="none")
    torch.testing.assert_close(output.generator_feedback_loss, entropy[chosen.weights > 0].mean())
    total = 50 * output.discriminator_loss + 3 * output.generator_feedback_loss
    torch.testing.assert_close(output.loss.detach(), total)


@pytest.mark.parametrize("family", FAMILIES)
def test_gumbel_softmax_in_a_step_by_hand(family):
    """Against one-hot + relaxed - relaxed.detach(), times the table, read by the encoder."""
    model = tiny_pair(
        family, generator_feedback="gumbel_softmax", generator_feedback_weight=2, sampling_temperature=3, **ALONE
    )
    batch = tiny_text()
    torch.manual_seed(5)
    output, gradients = step(model, batch)
    to_draw, chosen = drawn_from(model, batch, temperature=3)
    ids = output.corrupted_input_ids
    sampled = ids.gather(1, chosen.positions).flatten()
    # Drawn for spare slots as well, whose sample is not shown: only the rows of the others are compared below.
    torch.manual_seed(5)
    relaxed = relaxed_samples(to_draw.detach(), sampled, 0.3)
    noise = torch.where(to_draw.detach().isfinite(), 0.3 * relaxed.log() - to_draw.detach(), 0.0)
    soft = ((to_draw + noise) / 0.3).softmax(-1)
    held = chosen.weights.flatten() > 0
    hard = functional.one_hot(sampled, soft.shape[1]).float()
    words = model.get_input_embeddings()
    read = (hard + (soft - soft.detach()) * held[:, None]) @ words.weight
    index = chosen.positions[..., None].expand(-1, -1, read.shape[-1])
    embeddings = words(ids).scatter(1, index, read.view(*chosen.positions.shape, -1))
    hidden = model.encoder(inputs_embeds=embeddings, attention_mask=batch["attention_mask"]).last_hidden_state
    tokens = batch["attention_mask"].bool()
    logits = model.discriminator_predictions(hidden)[tokens]
    loss = 50 * functional.binary_cross_entropy_with_logits(logits, output.is_replaced[tokens].float())
    torch.testing.assert_close(output.loss, loss)
    for name, expected in generator_gradients(model, -2 * loss).items():
        torch.testing.assert_close(gradients[name], expected, atol=1e-4, rtol=1e-3)
        assert expected.abs().max() > 0, name


def test_relaxed_samples_are_distributed_as_if_their_noise_had_come_first():
    torch.manual_seed(0)
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0, -torch.inf])
    rows = logits.expand(200_000, -1)
    sampled = torch.multinomial(rows.softmax(-1), 1)[:, 0]
    found = relaxed_samples(rows, sampled, 0.7)
    assert torch.equal(found.argmax(-1), sampled) and (found[:, 4] < 1e-6).all()
    expected = functional.gumbel_softmax(rows, tau=0.7)
    for token in range(4):
        ours, theirs = found[sampled == token], expected[expected.argmax(-1) == token]
        torch.testing.assert_close(ours.mean(0), theirs.mean(0), atol=0.005, rtol=0)
        torch.testing.assert_close(ours.std(0), theirs.std(0), atol=0.005, rtol=0)


@pytest.mark.parametrize(
    ("family", "form"),
    [*((family, "packed") for family in ALL_FAMILIES), *((family, "padded") for family in FAMILIES)],
)
def test_the_discriminator_neither_reads_nor_learns_anything_else(family, form):
    batch = tiny_packed() if form == "packed" else tiny_text()
    expected, wanted = step(tiny_pair(family, embedding_sharing="none"), batch)
    for kind in KINDS:
        output, gradients = step(tiny_pair(family, embedding_sharing="none", generator_feedback=kind), batch)
        assert torch.equal(output.corrupted_input_ids, expected.corrupted_input_ids)
        torch.testing.assert_close(output.logits, expected.logits)
        torch.testing.assert_close(output.discriminator_loss, expected.discriminator_loss)
        for name, gradient in wanted.items():
            if not name.startswith("generator."):
                torch.testing.assert_close(gradients[name], gradient, msg=lambda text, name=name: f"{name}: {text}")
        bias = next(name for name, p in wanted.items() if name.startswith("generator.") and p.shape == (150,))
        assert not torch.allclose(gradients[bias], wanted[bias])


@pytest.mark.parametrize("kind", KINDS)
def test_the_generator_makes_the_discriminators_task_harder(kind):
    """The mean over samples spread evenly over what can be drawn at one position a row."""
    model = tiny_pair("electra", generator_feedback=kind, **ALONE)
    text = tiny_text(rows=1, length=9)
    samples = 256
    ids = text["input_ids"].expand(samples, -1)
    uniforms = uniforms_for(text["input_ids"]).expand(samples, -1).clone()
    uniforms[:, -1] = (torch.arange(samples) + 0.5) / samples

    def losses():
        output = model(ids, corruption_uniforms=uniforms)
        return output.loss, functional.binary_cross_entropy_with_logits(
            output.logits[output.is_chosen], output.is_replaced[output.is_chosen].float()
        ).item()

    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.generator.parameters(), lr=0.03)
    found = []
    for _ in range(12):
        loss, at_chosen = losses()
        found.append(at_chosen)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert found[-1] > found[0] + 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_batch_add_up(kind, monkeypatch):
    # Noise that does not depend on who draws it.
    monkeypatch.setattr(
        "modeling_electra_rtd.model.feedback.relaxed_samples", lambda log_probs, *_: (log_probs / 2).softmax(-1)
    )
    model, batch = tiny_pair("electra", generator_feedback=kind), tiny_text()
    output, whole = step(model, batch)
    uniforms = uniforms_for(batch["input_ids"])
    model.zero_grad()
    for rows in (slice(0, 1), slice(1, 3)):
        part = {name: value[rows] for name, value in batch.items()}
        model(**part, corruption_uniforms=uniforms[rows], loss_normalizers=output.loss_terms).loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, whole[name], atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_compiles_as_one_graph(kind):
    model = tiny_pair("electra", generator_feedback=kind, encoder={"num_hidden_layers": 1}).train()
    torch.manual_seed(0)
    expected, gradients = step(model)
    model.zero_grad()
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    batch = tiny_text()
    torch.manual_seed(0)
    output = compiled(**batch, corruption_uniforms=uniforms_for(batch["input_ids"]))
    output.loss.backward()
    torch.testing.assert_close(output.loss, expected.loss)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-4, rtol=1e-4)


def test_without_gradients_nothing_is_drawn_for_them():
    model, batch = tiny_pair("electra", generator_feedback="gumbel_softmax"), tiny_text()
    state = torch.get_rng_state()
    with torch.no_grad():
        model(**batch, corruption_uniforms=uniforms_for(batch["input_ids"]))
    assert torch.equal(torch.get_rng_state(), state)
    step(model, batch)
    assert not torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", KINDS)
def test_resuming_is_exact(kind, tmp_path):
    blocks = random_blocks(16)

    def train(folder, resume=None):
        config = copy.deepcopy(tiny_joint_model().config)
        config.generator_feedback = kind
        torch.manual_seed(1)
        model = ElectraRtdForPreTraining(config)
        arguments = tiny_arguments(folder, max_steps=4, save_strategy="steps", save_steps=2)
        trainer = ElectraRtdTrainer(model=model, args=arguments, train_dataset=blocks)
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    straight = train(tmp_path / "straight")
    resumed = train(tmp_path / "straight", str(tmp_path / "straight" / "checkpoint-2"))
    for name, value in straight.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    logged = [entry for entry in straight.state.log_history if "loss" in entry]
    assert len(logged) == 4
    if kind == "reinforce":
        assert all(0.3 < entry["generator_feedback_loss"] < 1 for entry in logged)
        assert straight.model.feedback.baseline.abs().max() > 0
        first = logged[0]
        weighted = first["generator_loss"] + 50 * first["discriminator_loss"] + first["generator_feedback_loss"]
        assert first["loss"] == pytest.approx(weighted, rel=1e-5)


def rewrite(folder, feedback):
    path = folder / "config.json"
    values = json.loads(path.read_text())
    values["electra_rtd"]["generator_feedback"] = feedback
    path.write_text(json.dumps(values))


def test_the_baseline_is_kept_by_joint_checkpoints_and_missed_by_none(tmp_path):
    model, batch = tiny_pair("electra", generator_feedback="reinforce"), tiny_text()
    expected, _ = step(model, batch)
    model.save_pretrained(tmp_path / "joint")
    loaded, report = ElectraRtdForPreTraining.from_pretrained(tmp_path / "joint", output_loading_info=True)
    torch.testing.assert_close(step(loaded, batch)[0].loss, expected.loss)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    # Without feedback it is passed over.
    rewrite(tmp_path / "joint", "none")
    loaded, report = ElectraRtdForPreTraining.from_pretrained(tmp_path / "joint", output_loading_info=True)
    torch.testing.assert_close(step(loaded, batch)[0].discriminator_loss, expected.discriminator_loss)
    assert not hasattr(loaded, "feedback") and not report["unexpected_keys"]
    # A release has none, and a pair that is made of one starts with a new one; so does one trained without.
    (tmp_path / "release").mkdir()
    write_release(model, None, tmp_path / "release")
    assert not any("feedback" in name for name in load_file(tmp_path / "release" / "model.safetensors"))
    tiny_pair("electra").save_pretrained(tmp_path / "older")
    rewrite(tmp_path / "older", "reinforce")
    for name in ("release", "older"):
        loaded, report = ElectraRtdForPreTraining.from_pretrained(tmp_path / name, output_loading_info=True)
        assert not report["missing_keys"] and not report["unexpected_keys"], name
        assert torch.equal(loaded.feedback.baseline, torch.zeros(8))


def test_an_encoder_that_reads_only_ids_is_refused():
    class ReadsIds(nn.Module):
        config = ElectraConfig()

        def forward(self, input_ids, attention_mask=None):
            return input_ids

    with pytest.raises(ValueError, match="'electra' does not; use 'reinforce'"):
        check_reads_embeddings(ReadsIds())
    check_reads_embeddings(tiny_pair("modernbert").encoder)
