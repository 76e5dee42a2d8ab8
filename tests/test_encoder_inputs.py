"""Packed documents against each of them alone, and the masks by hand."""

import pytest
import torch
from helpers.tiny import (
    ALL_FAMILIES,
    OBJECTIVE,
    OWN_ATTENTION,
    SPECIAL,
    stock_discriminator_logits,
    tiny_config,
    tiny_packed,
    tiny_pair,
    tiny_text,
    uniforms_for,
)

from modeling_electra_rtd import (
    ElectraRtdConfig,
    ElectraRtdDiscriminator,
    ElectraRtdForPreTraining,
    ElectraRtdGenerator,
)
from modeling_electra_rtd.model.cpu_attention import ATTENTION
from modeling_electra_rtd.model.encoder_inputs import check_attention, document_attention_mask, positions_from
from modeling_electra_rtd.model.generators import TwoTowerGenerator
from modeling_electra_rtd.pretraining.recipes import ModelRecipe


FORMS = [(family, form) for family in ALL_FAMILIES for form in ("sdpa", "eager")[family in OWN_ATTENTION :]]


@pytest.mark.parametrize(("family", "attention"), FORMS)
def test_packed_documents_do_not_see_each_other(family, attention):
    model = tiny_pair(family)
    model.set_attn_implementation(attention)
    assert model.encoder.config._attn_implementation == attention
    assert model.generator.encoder.config._attn_implementation == attention
    sizes = (9, 11)
    packed = tiny_packed(sizes)
    with torch.no_grad():
        hidden = model.encode(
            model.encoder, packed["input_ids"], None, packed["document_ids"], position_ids=packed["position_ids"]
        )
        together = {
            "hidden": hidden,
            "detected": model.discriminate(**packed),
            "words": model.generator(**packed).logits,
        }
        leaking = model.discriminate(
            packed["input_ids"], (packed["document_ids"] > 0).long(), position_ids=packed["position_ids"]
        )
        start = 0
        for size in sizes:
            document = slice(start, start + size)
            ids = packed["input_ids"][:, document]
            alone = {
                "hidden": model.encoder(ids).last_hidden_state,
                "detected": model.discriminate(ids),
                "words": model.generator(ids).logits,
            }
            for name, expected in alone.items():
                torch.testing.assert_close(together[name][:, document], expected, atol=1e-5, rtol=1e-5)
            # Were they to see each other, it would show.
            assert (leaking[:, document] - alone["detected"]).abs().max() > 1e-2
            start += size


@pytest.mark.parametrize(("family", "attention"), FORMS)
def test_one_document_a_row_equals_the_stock_padding_mask(family, attention):
    model, batch = tiny_pair(family), tiny_text()
    model.set_attn_implementation(attention)
    tokens = batch["attention_mask"].bool()
    with torch.no_grad():
        expected = stock_discriminator_logits(model, **batch)
        found = model.discriminate(batch["input_ids"], document_ids=batch["attention_mask"])
    torch.testing.assert_close(found[tokens], expected[tokens], atol=1e-5, rtol=1e-5)


def test_positions_behind_padding_by_hand():
    token_mask = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1]]).bool()
    # Counted as RoBERTa does: padding stands at the id of its token, 1.
    assert positions_from(2, None, token_mask).tolist() == [[2, 3, 4, 1], [1, 2, 3, 4]]
    assert positions_from(2, torch.tensor([[0, 1, 0, 1]]), token_mask).tolist() == [[2, 3, 2, 3]]


def test_a_sampled_padding_token_moves_no_position():
    model, text = tiny_pair("roberta", encoder={"pad_token_id": 1}), tiny_text(1, 12)["input_ids"]
    text[0, 4] = 1
    with torch.no_grad():
        found = model.encode(model.encoder, text, None, None)
        expected = model.encoder(text, position_ids=torch.arange(2, 14)[None]).last_hidden_state
        counted_by_ids = model.encoder(text).last_hidden_state
    torch.testing.assert_close(found, expected)
    assert (found - counted_by_ids).abs().max() > 1e-2


@pytest.mark.parametrize("family", ["roberta", "camembert", "xlm-roberta"])
def test_positions_are_counted_as_the_stock_model_counts_them(family):
    # The last position that the table has, and padding on either side.
    model = tiny_pair(family, encoder={"pad_token_id": 1, "max_position_embeddings": 26})
    text = tiny_text(2, 24)
    text["input_ids"][text["attention_mask"] == 0] = 1
    for batch in (text, {name: value.flip(1) for name, value in text.items()}):
        tokens = batch["attention_mask"].bool()
        with torch.no_grad():
            found = model.encode(model.encoder, batch["input_ids"], batch["attention_mask"], None)
            expected = model.encoder(**batch).last_hidden_state
        assert torch.equal(found[tokens], expected[tokens])


def test_document_mask_by_hand():
    document_ids = torch.tensor([[1, 1, 1, 2, 2, 0]])
    config = tiny_config("modernbert", local_attention=2)
    config._attn_implementation = "sdpa"
    masks = document_attention_mask(document_ids, config, torch.float32)
    full = [[1, 1, 1, 0, 0, 0]] * 3 + [[0, 0, 0, 1, 1, 0]] * 2 + [[0, 0, 0, 0, 0, 1]]
    local = [[1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0], *full[3:]]
    assert masks["full_attention"].long().tolist() == [[full]]
    assert masks["sliding_attention"].long().tolist() == [[local]]
    config._attn_implementation = "eager"
    for name, value in document_attention_mask(document_ids, config, torch.bfloat16).items():
        assert value.dtype == torch.bfloat16
        assert torch.equal(value == 0, masks[name])
        assert torch.equal(document_attention_mask(document_ids, config, torch.float32, "boolean")[name], masks[name])
        assert (value[~masks[name]] == torch.finfo(torch.bfloat16).min).all()


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_packing_changes_no_loss(family):
    # The same two documents in one row and in two, the same choices: to choose, `uniforms` go with the tokens.
    model = tiny_pair(family, mask_probability=1.0)
    sizes, packed = (9, 11), tiny_packed(length=20)
    uniforms = uniforms_for(packed["input_ids"], 1.0)
    together = model(**packed, corruption_uniforms=uniforms)
    apart = []
    ranks = (
        uniforms[0, :20]
        .masked_fill(torch.isin(packed["input_ids"][0], torch.tensor(SPECIAL)), -1)
        .argsort(descending=True)
    )
    start = 0
    for size in sizes:
        document = slice(start, start + size)
        # The slots of a document are those of the row that fell into it, in the same order.
        slots = [slot for slot, position in enumerate(ranks.tolist()) if document.start <= position < document.stop]
        own = torch.cat([uniforms[:, document], uniforms[:, 20:40][:, slots], uniforms[:, 40:][:, slots]], dim=1)
        counts = model.count_loss_terms(**packed)
        apart.append(model(packed["input_ids"][:, document], corruption_uniforms=own, loss_normalizers=counts))
        start += size
    assert torch.equal(torch.cat([part.corrupted_input_ids for part in apart], dim=1), together.corrupted_input_ids)
    for name in ("generator_loss", "discriminator_loss"):
        torch.testing.assert_close(apart[0][name] + apart[1][name], together[name], atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("pair")
    tiny_pair("electra").save_pretrained(folder)
    return str(folder)


def config_of(attention):
    config = tiny_config("electra")
    config._attn_implementation = attention
    return config


def assigned(config, attention):
    config._attn_implementation = attention


# Every way in, by what is asked for and a checkpoint of a pair.
WAYS_TO_ATTENTION = {
    "config": lambda name, _: ElectraRtdConfig.from_discriminator(config_of(name), **OBJECTIVE),
    "config of the generator": lambda name, _: ElectraRtdConfig(
        discriminator_config=tiny_config("electra"), generator_config=config_of(name), **OBJECTIVE
    ),
    "argument of a config": lambda name, _: ElectraRtdConfig(
        discriminator_config=tiny_config("electra"), attn_implementation=name, **OBJECTIVE
    ),
    "config that is built": lambda name, _: assigned(tiny_pair("electra").config, name),
    "config of a checkpoint": lambda name, folder: ElectraRtdConfig.from_pretrained(folder, attn_implementation=name),
    "pair": lambda name, folder: ElectraRtdForPreTraining.from_pretrained(folder, attn_implementation=name),
    "discriminator": lambda name, folder: ElectraRtdDiscriminator.from_pretrained(folder, attn_implementation=name),
    "generator": lambda name, folder: ElectraRtdGenerator.from_pretrained(folder, attn_implementation=name),
    "new generator": lambda name, _: ElectraRtdGenerator(config_of(name)),
    "two towers": lambda name, _: TwoTowerGenerator(config_of(name)),
    "two checkpoints": lambda name, folder: ElectraRtdForPreTraining.from_pair(folder, attn_implementation=name),
    "method": lambda name, _: tiny_pair("electra").set_attn_implementation(name),
    "method of the discriminator": lambda name, folder: ElectraRtdDiscriminator.from_pretrained(
        folder
    ).set_attn_implementation(name),
    "method of the generator": lambda name, _: tiny_pair("electra").generator.set_attn_implementation(name),
    "method for a part": lambda name, _: tiny_pair("electra").set_attn_implementation({"discriminator_config": name}),
    "recipe": lambda name, _: ModelRecipe(discriminator="small.json", attn_implementation=name),
}


@pytest.mark.parametrize("way", WAYS_TO_ATTENTION)
@pytest.mark.parametrize(
    "name", ["flex_attention", "flash_attention_2", "kernels-community/flash-attn3", "paged|sdpa", "nonsense"]
)
def test_attention_that_would_misread_the_mask_of_documents_is_refused(way, name, checkpoint):
    with pytest.raises(ValueError) as caught:
        WAYS_TO_ATTENTION[way](name, checkpoint)
    assert str(caught.value) == f"attn_implementation is {name!r}; it must be sdpa or eager"


@pytest.mark.parametrize("way", WAYS_TO_ATTENTION)
@pytest.mark.parametrize("name", ["sdpa", "eager", ATTENTION, None])
def test_attention_that_reads_it_is_taken(way, name, checkpoint):
    if name is not None or not way.startswith("method"):
        WAYS_TO_ATTENTION[way](name, checkpoint)


def test_a_config_changed_behind_the_checks_makes_no_mask():
    config = config_of("flex_attention")
    with pytest.raises(ValueError, match="attn_implementation is 'flex_attention'; it must be sdpa or eager"):
        document_attention_mask(torch.tensor([[1, 1, 2]]), config, torch.float32)
    # An encoder with attention of its own takes a boolean one, whatever the config says.
    assert document_attention_mask(torch.tensor([[1, 1, 2]]), config, torch.float32, "boolean").dtype == torch.bool
    check_attention({"": "sdpa", "discriminator_config": {"": "eager"}})
    with pytest.raises(ValueError, match="'flex_attention'"):
        check_attention({"": "sdpa", "discriminator_config": {"": "flex_attention"}})
