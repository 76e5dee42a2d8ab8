"""Family x sharing x objective: what may go together trains, resumes to the bit, saves, loads natively and compiles;
what may not is refused with the reason.

By default every value meets every value of the other two (pairwise); `-m slow` runs the whole product.
"""

import copy
import itertools

import pytest
import torch
import torch._dynamo
from helpers.tiny import ALL_FAMILIES, OBJECTIVE, tiny_config, tiny_text
from transformers import AutoModel, AutoModelForMaskedLM

from modeling_electra_rtd import ElectraRtdConfig, ElectraRtdForPreTraining
from modeling_electra_rtd.model.objectives import OBJECTIVES
from modeling_electra_rtd.model.rules import CHOICES


# Electric needs a noise that it knows everywhere; the others have the reference's.
KINDS = {"electric": "two_tower"}
STEPS = 20


def config_of(family: str, sharing: str, objective: str) -> ElectraRtdConfig:
    return ElectraRtdConfig.from_discriminator(
        tiny_config(family),
        embedding_sharing=sharing,
        objective=objective,
        generator_kind=KINDS.get(objective, "masked_lm"),
        # The losses of a tiny model on one batch, all of a size.
        discriminator_loss_weight=5,
        **OBJECTIVE,
    )


def makes_sense(sharing: str, objective: str) -> bool:
    if objective == "mlm":
        return sharing in ("none", "tied")
    if OBJECTIVES[objective].has_masked_lm_head:
        return sharing not in ("all", "gdes")
    return not (objective == "electric" and sharing == "all")


PRODUCT = list(itertools.product(ALL_FAMILIES, CHOICES["embedding_sharing"], OBJECTIVES))
SENSIBLE = [combination for combination in PRODUCT if makes_sense(*combination[1:])]


def pairwise(combinations: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The fewest that a greedy choice needs for every pair of values that occurs."""

    def pairs(combination: tuple[str, ...]) -> set[tuple]:
        return set(itertools.combinations(enumerate(combination), 2))

    missing, kept = set().union(*map(pairs, combinations)), []
    while missing:
        kept.append(max(combinations, key=lambda combination: len(pairs(combination) & missing)))
        missing -= pairs(kept[-1])
    return kept


FEW = pairwise(SENSIBLE)
CASES = [*FEW, *(pytest.param(*case, marks=pytest.mark.slow) for case in SENSIBLE if case not in FEW)]


def train(model: ElectraRtdForPreTraining, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    model.train()
    batch, losses = tiny_text(rows=4), []
    for _ in range(steps):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def optimizer_of(model: ElectraRtdForPreTraining) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=5e-3)


@pytest.mark.parametrize(("family", "sharing", "objective"), CASES)
def test_what_goes_together(family, sharing, objective, tmp_path):
    torch.manual_seed(0)
    model = ElectraRtdForPreTraining(config_of(family, sharing, objective))
    optimizer = optimizer_of(model)
    losses = train(model, optimizer, STEPS // 2)
    model.save_pretrained(tmp_path)
    state, random_state = copy.deepcopy(optimizer.state_dict()), torch.get_rng_state()
    losses += train(model, optimizer, STEPS // 2)
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5]), losses
    unused = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not unused, unused

    resumed, report = ElectraRtdForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    again = optimizer_of(resumed)
    again.load_state_dict(state)
    torch.set_rng_state(random_state)
    assert train(resumed, again, STEPS // 2) == losses[STEPS // 2 :]
    assert all(map(torch.equal, resumed.state_dict().values(), model.state_dict().values()))

    # What stock classes find at the root is the trained encoder, whole.
    resumed.save_pretrained(tmp_path)
    learns = OBJECTIVES[objective]
    stock_class = AutoModelForMaskedLM if learns.has_masked_lm_head else AutoModel
    stock, report = stock_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"], report["missing_keys"]
    text = tiny_text()
    # In padding, which no loss reads, local layers of a CPU's own attention say something else.
    tokens = text["attention_mask"].bool()
    states = [network.eval()(**text)[0][tokens] for network in (stock.base_model, model.eval().encoder)]
    torch.testing.assert_close(*states, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("family", "sharing", "objective"),
    [
        ("electra", "tied", "rtd_mlm"),
        ("modernbert", "gdes", "rtd"),
        *(
            pytest.param("electra", "tied", objective, marks=pytest.mark.slow)
            for objective in OBJECTIVES
            if objective not in ("rtd", "rtd_mlm")
        ),
        *(
            pytest.param("modernbert", sharing, "rtd", marks=pytest.mark.slow)
            for sharing in CHOICES["embedding_sharing"]
            if sharing not in ("tied", "gdes")
        ),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in FEW),
    ],
)
def test_compiles_as_one_graph(family, sharing, objective):
    torch.manual_seed(0)
    model = ElectraRtdForPreTraining(config_of(family, sharing, objective)).eval()
    text = tiny_text()
    torch.manual_seed(1)
    expected = model(**text).loss
    torch._dynamo.reset()
    torch.manual_seed(1)
    compiled = torch.compile(model, backend="eager", fullgraph=True)(**text).loss
    torch.testing.assert_close(compiled, expected)


@pytest.mark.parametrize(
    ("sharing", "objective"),
    sorted({case[1:] for case in PRODUCT} - {case[1:] for case in SENSIBLE}),
)
def test_what_does_not_go_together_is_refused(sharing, objective):
    with pytest.raises(ValueError, match=f"objective '{objective}' cannot go with .*{sharing}") as error:
        config_of("electra", sharing, objective)
    assert len(str(error.value).splitlines()) == 1


def test_the_few_hold_every_pair():
    assert len(FEW) < len(SENSIBLE) / 3
    for one, other in itertools.combinations(range(3), 2):
        assert {(case[one], case[other]) for case in FEW} == {(case[one], case[other]) for case in SENSIBLE}
