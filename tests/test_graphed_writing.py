"""The language model's layers in fewer steps, and sentences written in recorded steps, against transformers' modules and the plain loop.

Without a GPU the steps are computed, not recorded; the tests that record them are skipped and say so.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import DynamicCache, Qwen2_5_VLForConditionalGeneration

import pipeline.describe.graphed_writing as graphed_writing
from pipeline.describe.backends.transformers import TransformersDescriber
from pipeline.describe.checkpoints import Checkpoint, locate, open_checkpoint
from pipeline.describe.graphed_writing import FUSED_ROWS, GraphedWriter, _Step, fused
from pipeline.describe.text_layers import PLAIN, Between, TextLayers
from pipeline.describe.tokens import MAX_SENTENCE
from pipeline.describe.vision_tower import speed_up
from pipeline.errors import FocalfaceWarning
from pipeline.records import Request
from pipeline.speed.full_size import SHAPES, build

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@pytest.fixture(scope="module")
def nano() -> Checkpoint:
    """Asked about the face alone, so that half as much is computed."""
    checkpoint = open_checkpoint("nano", device="cpu")
    return replace(checkpoint, grammar=replace(checkpoint.grammar, mirror=False))


def test_the_layers_give_the_numbers_of_the_librarys_modules() -> None:
    model: Any = build(SHAPES["tiny"], "cpu", own_tower=False).model
    generator = torch.Generator().manual_seed(3)
    embeds = torch.randn(3, 11, SHAPES["tiny"].hidden, generator=generator)
    positions = torch.randint(0, 12, (3, 3, 11), generator=generator)  # time, row and column differ, as they do in pictures
    first = torch.ones(3, 1, 7, 7, dtype=torch.bool).tril()
    later = torch.rand(3, 1, 4, 11, generator=generator) > 0.4
    later[..., 0] = True
    steps = [(slice(7), first), (slice(7, 11), later)]

    def library() -> list[torch.Tensor]:
        """Seven tokens, then four more."""
        cache, found = DynamicCache(), []
        for place, mask in steps:
            unseen = torch.zeros(mask.shape).masked_fill_(~mask, torch.finfo(torch.float32).min)
            inputs = {"inputs_embeds": embeds[:, place], "position_ids": positions[..., place], "past_key_values": cache}
            network = model.model.language_model
            found.append(network(**inputs, attention_mask={"full_attention": unseen}, use_cache=True).last_hidden_state)
        return found

    with torch.inference_mode():
        wanted = library()
        layers, kept = TextLayers(model), dict[int, torch.Tensor]()
        for (place, mask), numbers in zip(steps, wanted, strict=True):

            def attend(number: int, query: torch.Tensor, key_value: torch.Tensor, mask: torch.Tensor = mask) -> torch.Tensor:
                kept[number] = torch.cat([kept[number], key_value], 2) if number in kept else key_value
                keys, values = kept[number].chunk(2, 1)
                return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, enable_gqa=True)

            assert torch.allclose(layers.run(embeds[:, place], positions[..., place], attend), numbers, atol=2e-5)
        assert all(torch.equal(*pair) for pair in zip(library(), wanted, strict=True))  # the model's own weights keep their values


def test_sentences_are_those_of_the_plain_loop(nano: Checkpoint, asked_faces: list[Request]) -> None:
    describer = TransformersDescriber(nano)
    wanted = [answer.own_sentence for answer in describer.describe(asked_faces)]
    assert len({len(sentence or "") for sentence in wanted}) > 5  # they end after different numbers of tokens
    writer = _use_steps(describer)
    assert [answer.own_sentence for answer in describer.describe(asked_faces)] == wanted
    again = describer.describe(asked_faces[:11]), describer.describe(asked_faces[3:12])  # one step, used by two batches one after the other
    assert [[answer.own_sentence for answer in part] for part in again] == [wanted[:11], wanted[3:12]]
    assert [rows for rows, _ in writer._steps] == [24, 16]


def test_turns_after_sentences_of_different_lengths_are_written_together(nano: Checkpoint, asked_faces: list[Request]) -> None:
    """Prompts of different lengths are read one length after the other; all their sentences are one batch."""
    talking = replace(nano, grammar=replace(nano.grammar, earlier_turns="full"))
    describer = TransformersDescriber(talking)
    asked = [*asked_faces[:3], *asked_faces[4:6], asked_faces[8]]
    wanted = [answer.own_sentence for answer in describer.converse(asked)]
    writer = _use_steps(describer)
    assert [answer.own_sentence for answer in describer.converse(asked)] == wanted
    assert len(writer._steps) > 1  # earlier turns need more places


def test_sentences_that_never_end_are_cut_where_the_loop_cuts_them(asked_faces: list[Request], monkeypatch: pytest.MonkeyPatch) -> None:
    describer = TransformersDescriber(build(SHAPES["tiny"], "cpu", own_tower=True))  # random weights never choose the end
    monkeypatch.setattr(describer._tokens, "decode", lambda ids: " ".join(map(str, ids)))
    wanted = [answer.own_sentence for answer in describer.describe(asked_faces[:5])]
    assert [len((tokens or "").split()) for tokens in wanted] == [MAX_SENTENCE] * 5
    _use_steps(describer)
    assert [answer.own_sentence for answer in describer.describe(asked_faces[:5])] == wanted


def test_few_steps_are_kept(nano: Checkpoint, asked_faces: list[Request], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphed_writing, "RECORDED", 1)
    describer = TransformersDescriber(nano)
    writer = _use_steps(describer)
    for count in (9, 2):
        describer.describe(asked_faces[:count])
    assert [rows for rows, _ in writer._steps] == [8]


@pytest.mark.slow
def test_compiled_steps_between_products_give_the_same_numbers() -> None:
    generator = torch.Generator().manual_seed(3)
    for rows in (4, 6, 7):
        hidden, weight = (torch.randn(*shape, generator=generator) for shape in ((rows, 64), (64,)))
        heads, cos, sin, products = (
            torch.randn(*shape, generator=generator) for shape in ((rows, 1, 6, 16), (rows, 1, 1, 16), (rows, 1, 1, 16), (rows, 96))
        )
        other = heads.clone()
        with torch.inference_mode():
            assert torch.allclose(fused().norm(hidden, weight, 1e-6), PLAIN.norm(hidden, weight, 1e-6), atol=1e-5)
            PLAIN.turn(heads[:, :, :4], cos, sin)
            fused().turn(other[:, :, :4], cos, sin)
            assert torch.allclose(fused().gate(products), PLAIN.gate(products), atol=1e-5)
        assert torch.allclose(heads, other, atol=1e-5)


def test_where_nothing_compiles_steps_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any) -> Any:
        raise RuntimeError("no C compiler\nand more")

    monkeypatch.setattr(graphed_writing, "fused", lambda: Between(norm=fails))
    model = build(SHAPES["tiny"], "cpu", own_tower=True).model
    with torch.inference_mode():
        step = _Step(model, TextLayers(model), FUSED_ROWS, 64)
        with pytest.warns(FocalfaceWarning, match=r"torch\.compile does not work here \(no C compiler\)$"):
            step._set_up()
        assert step._between is PLAIN
        small = _Step(model, TextLayers(model), FUSED_ROWS - 8, 64)
        small._set_up()  # nothing is compiled for few rows


@needs_gpu
def test_recorded_steps_write_what_the_cpu_writes(asked_faces: list[Request]) -> None:
    wanted = [answer.own_sentence for answer in TransformersDescriber(open_checkpoint("nano", device="cpu")).describe(asked_faces)]
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(locate("nano"), dtype=torch.float32, attn_implementation="sdpa")
    opened = replace(open_checkpoint("nano", device="cuda"), model=speed_up(model).cuda().eval())
    describer = TransformersDescriber(opened)
    for _ in range(2):
        assert [answer.own_sentence for answer in describer.describe(asked_faces)] == wanted


def _use_steps(describer: TransformersDescriber) -> GraphedWriter:
    """Let a describer on the CPU write as it does on a GPU, but without a graph."""
    describer._writer = GraphedWriter(describer._model, describer._layers, describer._tokens.end)
    return describer._writer
