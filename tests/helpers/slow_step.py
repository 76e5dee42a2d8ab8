"""One RTD step in slow Python with stock models, and how an output is held against it."""

import torch
from torch.nn import functional

from helpers.tiny import MASK, SPECIAL, stock_discriminator_logits, stock_generator
from modeling_electra_rtd import ElectraRtdForPreTraining


@torch.no_grad()
def slow_step(model: ElectraRtdForPreTraining, input_ids, attention_mask, uniforms, temperature=1.0) -> dict:
    """One RTD step, token by token, with stock models."""
    probability, length = model.config.mask_probability, input_ids.shape[1]
    slots = max(1, round(probability * length))
    masked, corrupted = input_ids.clone(), input_ids.clone()
    chosen = []
    for row, ids in enumerate(input_ids.tolist()):
        candidates = [i for i in range(length) if attention_mask[row, i] and ids[i] not in SPECIAL]
        count = max(1, round(probability * len(candidates))) if candidates else 0
        ranked = sorted(candidates, key=lambda i, row=row: -uniforms[row, i].item())[:count]
        for slot, position in enumerate(ranked):
            chosen.append((row, position, slot))
            if uniforms[row, length + slot] < model.config.mask_token_probability:
                masked[row, position] = MASK
    log_probs = stock_generator(model)(masked, attention_mask=attention_mask).logits.log_softmax(dim=-1)
    drawable = log_probs.clone()
    rows = log_probs.shape[-1]
    drawable[..., [*SPECIAL, *range(model.config.number_of_tokens or rows, rows)]] = float("-inf")
    drawable = drawable.log_softmax(dim=-1)
    candidates = (tokens := attention_mask.bool()) & ~torch.isin(input_ids, torch.tensor(SPECIAL))
    is_chosen, sampled_log_probs = torch.zeros(input_ids.shape, dtype=torch.bool), torch.zeros(input_ids.shape)
    correct = is_chosen.clone()
    losses = []
    for row, position, slot in chosen:
        of_token = log_probs[row, position]
        text = input_ids[row, position]
        losses.append(-of_token[text])
        ends = (drawable[row, position].double() / temperature).softmax(dim=0).cumsum(dim=0)
        sample = (ends <= uniforms[row, length + slots + slot].double()).sum()
        corrupted[row, position] = sample
        is_chosen[row, position] = True
        sampled_log_probs[row, position] = drawable[row, position, sample]
        correct[row, position] = of_token.argmax() == text
    is_replaced = corrupted != input_ids
    logits = stock_discriminator_logits(model, corrupted, attention_mask)
    discriminator_loss = functional.binary_cross_entropy_with_logits(logits[tokens], is_replaced[tokens].float())
    generator_loss = torch.stack(losses).mean() if losses else torch.zeros(())
    return {
        "generator_loss": generator_loss,
        "discriminator_loss": discriminator_loss,
        "loss": generator_loss + 50 * discriminator_loss,
        "logits": logits,
        "replaced_probs": logits.sigmoid(),
        "corrupted_input_ids": corrupted,
        "is_replaced": is_replaced,
        "is_chosen": is_chosen,
        "sampled_log_probs": sampled_log_probs,
        "generator_is_correct": correct,
        "token_mask": tokens,
        "loss_terms": torch.tensor([len(chosen), candidates.sum(), tokens.sum()]).float(),
    }


def assert_equal_outputs(output, expected: dict, tolerance: float = 1e-5) -> None:
    assert set(output.keys()) == set(expected)
    for name, value in expected.items():
        if value.dtype.is_floating_point:
            # The total is 50 times one of its terms.
            absolute = tolerance * (50 if name == "loss" else 1)
            torch.testing.assert_close(
                output[name].detach(), value, atol=absolute, rtol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
            )
        else:
            assert torch.equal(output[name], value), name
