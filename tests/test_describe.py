"""The describer against the reference model run the plain way, and against itself in other batches."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLForConditionalGeneration

from pipeline.describe.backends import load_describer
from pipeline.describe.backends.transformers import TransformersDescriber
from pipeline.describe.checkpoints import Checkpoint, locate, open_checkpoint
from pipeline.describe.claims import claims
from pipeline.describe.describer import checked
from pipeline.describe.describer import plain as plain_wording
from pipeline.describe.grammar import ANSWER_END, IMAGE_TOKEN, LEVEL_CHOICES, USER_IMAGE_END, USER_START, Grammar, fields_text, region_text
from pipeline.describe.patches import grid_thw, patchify
from pipeline.describe.sentences import compose
from pipeline.describe.tokens import PromptTokens
from pipeline.errors import ModelError
from pipeline.execution.description import answer_columns
from pipeline.records import Answer, Request
from pipeline.training.nano import GRAMMAR, PREPROCESSOR_CONFIG, build_model, build_tokenizer, save_checkpoint
from pipeline.vocabulary import AUS, EMOTION_WORDS, EMOTIONS, REGION_AUS, UNIT, compatible, excludes, mirrored_au

REGIONS_ASKED = 4  # of each face, the whole face first
NANO_AUS = Grammar.load(locate("nano")).aus


@pytest.fixture(scope="module")
def describer() -> TransformersDescriber:
    return TransformersDescriber(open_checkpoint("nano", device="cpu"), batch_size=32)


@pytest.fixture(scope="module")
def plain() -> TransformersDescriber:
    """Reads each face once, not its mirror image too."""
    checkpoint = open_checkpoint("nano", device="cpu")
    return TransformersDescriber(replace(checkpoint, grammar=replace(checkpoint.grammar, mirror=False)))


@pytest.fixture(scope="module")
def answers(describer: TransformersDescriber, asked_faces: list[Request]) -> list[Answer]:
    return describer.describe(asked_faces)


def test_plain_sentences_go_with_the_same_fields(
    describer: TransformersDescriber, asked_faces: list[Request], answers: list[Answer]
) -> None:
    quick = load_describer("nano", device="cpu", sentences="plain")
    wanted = [_plain(answer, request) for answer, request in zip(answers, asked_faces, strict=True)]
    assert _alike(quick.describe(asked_faces), wanted)
    assert [answer.description for answer in wanted] != [answer.description for answer in answers]
    assert _alike(quick.converse(asked_faces[:1]), [_plain(answers[0], asked_faces[0])])
    assert quick.replaced == 0


def _plain(answer: Answer, request: Request) -> Answer:
    return replace(answer, description=plain_wording(answer, request, NANO_AUS), own_sentence=None)


def _alike(some: list[Answer], others: list[Answer]) -> bool:
    """Equal but for the last bits of scores."""
    return all(
        replace(one, au_scores={}, emotion_scores={}, au_intensities={})
        == replace(other, au_scores={}, emotion_scores={}, au_intensities={})
        and one.au_intensities == pytest.approx(other.au_intensities, abs=5e-5)
        and one.au_scores == pytest.approx(other.au_scores, abs=1e-5)
        and one.emotion_scores == pytest.approx(other.emotion_scores, abs=1e-5)
        for one, other in zip(some, others, strict=True)
    )


def test_answers_keep_the_grammar(describer: TransformersDescriber, asked_faces: list[Request], answers: list[Answer]) -> None:
    for request, answer in zip(asked_faces, answers, strict=True):
        can_show = [au for au in REGION_AUS[request.region] if au in describer.aus]
        assert list(answer.au_scores) == can_show
        assert all(0 <= score <= 1 for score in answer.au_scores.values())
        assert set(answer.aus) <= {au for au in can_show if answer.au_scores[au] >= describer.grammar.threshold(au)}
        assert set(answer.emotion_scores) == set(EMOTIONS)
        assert sum(answer.emotion_scores.values()) == pytest.approx(1, abs=1e-6)
        assert answer.emotion == max(answer.emotion_scores, key=answer.emotion_scores.__getitem__)
        assert answer.age_low is not None and answer.age_high is not None
        assert 0 <= answer.age_low <= answer.age <= answer.age_high <= 100
    assert describer.info.thresholds == {au: describer.grammar.threshold(au) for au in describer.aus}


def test_of_two_units_that_exclude_each_other_the_surer_stands(asked_faces: list[Request]) -> None:
    """With thresholds so low that every unit is a candidate, whatever the picture."""
    checkpoint = open_checkpoint("nano", device="cpu")
    eager = TransformersDescriber(replace(checkpoint, grammar=replace(checkpoint.grammar, thresholds=dict.fromkeys(AUS, 0.0))))
    for request, answer in zip(asked_faces, eager.describe(asked_faces), strict=True):
        assert answer.aus == compatible(answer.au_scores)
        assert not any(excludes(one, other) for one in answer.aus for other in answer.aus)
        assert claims(answer.description).aus == set(answer.aus)
        if request.region == "mouth":
            assert {"AU24", "AU25"} <= set(answer.au_scores), "scores stay the model's own"
            assert answer.au_scores["AU24"] > answer.au_scores["AU25"] or "AU24" not in answer.aus


def test_levels_give_score_and_intensity(asked_faces: list[Request], tmp_path: Path) -> None:
    """A checkpoint whose grammar asks for levels: the score is the probability of any level but 0, the intensity the expected level."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    save_checkpoint(build_model(tokenizer), tokenizer, GRAMMAR, PREPROCESSOR_CONFIG, tmp_path)
    graded = TransformersDescriber(open_checkpoint(str(tmp_path), device="cpu"))
    assert graded.grammar.au_levels
    for request, answer in zip(asked_faces[:4], graded.read(asked_faces[:4]), strict=True):
        known = [au for au in REGION_AUS[request.region] if au in graded.aus]
        assert list(answer.au_scores) == known
        assert list(answer.au_intensities) == [au for au in known if UNIT[au].graded]
        for au, intensity in answer.au_intensities.items():
            assert answer.au_scores[au] <= intensity <= 5 * answer.au_scores[au], "an active unit has a level from 1 to 5"
        columns = answer_columns(answer)
        assert columns.get("AU12_intensity") == answer.au_intensities.get("AU12")
        assert "AU61_intensity" not in columns
    mirror = Request(np.ascontiguousarray(asked_faces[0].crop[:, ::-1]), _mirrored_box(asked_faces[0]), "face")
    one, other = graded.read([asked_faces[0], mirror])
    assert one.au_scores["AU61"] == pytest.approx(other.au_scores["AU62"], abs=1e-5), "a mirrored face looks to the other side"
    assert one.au_intensities["AU12"] == pytest.approx(other.au_intensities["AU12"], abs=1e-5)


def _mirrored_box(request: Request) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = request.box
    return 112 - x1, y0, 112 - x0, y1


def test_fields_alone_are_those_of_a_description(
    describer: TransformersDescriber, asked_faces: list[Request], answers: list[Answer]
) -> None:
    read = describer.read(asked_faces)
    for one, other in zip(read, answers, strict=True):
        assert one.au_scores == pytest.approx(other.au_scores, abs=1e-6)
        assert one.emotion_scores == pytest.approx(other.emotion_scores, abs=1e-6)
        assert one == replace(other, au_scores=one.au_scores, emotion_scores=one.emotion_scores, description="", own_sentence=None), (
            "the rest is equal"
        )
    assert describer.read([]) == []


@pytest.mark.parametrize("sentences", ["model", "plain"])
def test_regions_have_the_emotion_and_age_of_their_face(
    describer: TransformersDescriber, asked_faces: list[Request], answers: list[Answer], sentences: str
) -> None:
    """Whether the whole face is among the questions or not, also where a face falls into two batches."""
    small = load_describer("nano", device="cpu", batch_size=6, sentences=sentences)
    faces = [asked_faces[i - i % REGIONS_ASKED] for i in range(len(asked_faces))]
    found = small.describe(asked_faces, faces)
    for i, (request, own, alone) in enumerate(zip(asked_faces, found, answers, strict=True)):
        face = answers[i - i % REGIONS_ASKED]
        assert (own.aus, own.emotion, own.age) == (alone.aus, face.emotion, face.age)
        assert (own.age_low, own.age_high) == (face.age_low, face.age_high)
        assert own.au_scores == pytest.approx(alone.au_scores, abs=1e-5)
        assert own.emotion_scores == pytest.approx(face.emotion_scores, abs=1e-5)
        assert claims(own.description).emotions == {face.emotion} and claims(own.description).ages == {round(face.age)}, request.region
    places = [i for i, request in enumerate(asked_faces) if request.region != "face"]
    assert _alike(small.describe([asked_faces[i] for i in places], [faces[i] for i in places]), [found[i] for i in places])
    assert _alike(small.converse(asked_faces, faces), found)


def test_a_reading_of_the_face_may_be_handed_in(
    describer: TransformersDescriber, asked_faces: list[Request], answers: list[Answer]
) -> None:
    """As a run does, whose series is read without the mirror image: the description of the face says what that reading says."""
    readings = describer.read(asked_faces[:1], mirror=False)
    face, mouth = describer.describe(asked_faces[:2], [readings[0]] * 2)
    assert replace(face, description="", own_sentence=None) == readings[0] != replace(answers[0], description="", own_sentence=None)
    assert claims(face.description).aus == set(face.aus)
    assert (mouth.emotion_scores, mouth.age) == (readings[0].emotion_scores, readings[0].age)
    assert mouth.au_scores == pytest.approx(answers[1].au_scores, abs=1e-5), "the region's own are as ever"


@pytest.mark.parametrize("earlier_turns", ["sentence", "all"])
def test_turns_have_the_emotion_and_age_of_their_face(asked_faces: list[Request], answers: list[Answer], earlier_turns: str) -> None:
    checkpoint = open_checkpoint("nano", device="cpu")
    talking = TransformersDescriber(replace(checkpoint, grammar=replace(checkpoint.grammar, earlier_turns=earlier_turns)))
    for places in ([0, 1, 2], [1, 2]):
        for turn in talking.converse([asked_faces[i] for i in places], [asked_faces[0]] * len(places)):
            assert (turn.emotion, turn.age) == (answers[0].emotion, answers[0].age)
            assert turn.emotion_scores == pytest.approx(answers[0].emotion_scores, abs=1e-5)
            assert claims(turn.description).ages == {round(turn.age)}


def test_a_sentence_says_what_its_fields_say(answers: list[Answer]) -> None:
    for answer in answers:
        said = claims(answer.description)
        assert said.aus == set(answer.aus)
        assert said.emotions == {answer.emotion}
        assert said.ages == {round(answer.age)}


AT_REST = ("nothing moves", "no movement", "no action", "all is still")


def test_a_regions_sentence_speaks_of_the_region_first(asked_faces: list[Request], answers: list[Answer]) -> None:
    for request, answer in zip(asked_faces, answers, strict=True):
        said = answer.description.lower()
        if request.region != "face":
            faces = [at for word in (*EMOTION_WORDS[answer.emotion], str(round(answer.age))) if (at := said.find(word)) >= 0]
            parts = [
                at
                for part in (*("lip", "mouth", "chin", "jaw", "eye", "lid", "nose", "region", "here", "box"), *AT_REST)
                if (at := said.find(part)) >= 0
            ]
            assert min(parts) < min(faces), answer.description
    request, nose = next(pair for pair in zip(asked_faces, answers, strict=True) if pair[0].region == "nose")
    said = plain_wording(replace(nose, aus=()), request, [au for au in AUS if au not in REGION_AUS["nose"]])
    assert said.startswith("No action of the face can be read in the nose"), "for a model that knows no unit of the nose"


def test_most_sentences_about_faces_and_active_regions_are_the_models_own(
    describer: TransformersDescriber, asked_faces: list[Request], answers: list[Answer]
) -> None:
    own = [answer.own_sentence == answer.description for answer in answers if answer.aus]
    assert sum(own) >= 0.75 * len(own)
    before = describer.replaced
    describer.describe(asked_faces)
    assert describer.replaced - before == sum(answer.own_sentence != answer.description for answer in answers)


def test_faces_differ_and_so_do_their_answers(answers: list[Answer]) -> None:
    assert len({answer.description for answer in answers}) > len(answers) / 3


@pytest.mark.parametrize("batch_size", [pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow), 7])
def test_a_request_alone_and_in_any_batch_gets_the_same_answer(
    describer: TransformersDescriber, asked_faces: list[Request], answers: list[Answer], batch_size: int
) -> None:
    other = TransformersDescriber(open_checkpoint("nano", device="cpu"), batch_size)
    for again, answer in zip(other.describe(asked_faces[::-1])[::-1], answers, strict=True):
        assert (again.aus, again.emotion, again.age, again.description) == (answer.aus, answer.emotion, answer.age, answer.description)
        assert again.au_scores == pytest.approx(answer.au_scores, abs=1e-5)
        assert again.emotion_scores == pytest.approx(answer.emotion_scores, abs=1e-5)


def _plain_inputs(describer: TransformersDescriber, request: Request, tail: str) -> dict[str, torch.Tensor]:
    """One conversation laid out flat, as any user of the model library would."""
    checkpoint = open_checkpoint("nano", device="cpu")
    text = USER_START + IMAGE_TOKEN * 16 + USER_IMAGE_END + describer.grammar.instruction + region_text(request.box) + tail
    ids = torch.tensor([checkpoint.tokenizer.encode(text, add_special_tokens=False)])
    image = torch.from_numpy(request.crop).permute(2, 0, 1)[None]
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == checkpoint.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)).int(),
        "pixel_values": patchify(image, mean=checkpoint.mean, std=checkpoint.std),
        "image_grid_thw": grid_thw(1, 112, 112),
    }


@pytest.fixture(scope="module")
def reference() -> Any:
    return Qwen2_5_VLForConditionalGeneration.from_pretrained(locate("nano"), dtype=torch.float32, attn_implementation="eager").eval()


@pytest.mark.parametrize("index", [0, 5, 14])
def test_scores_are_the_reference_models_token_probabilities(
    describer: TransformersDescriber, plain: TransformersDescriber, reference: Any, asked_faces: list[Request], index: int
) -> None:
    tokenizer = open_checkpoint("nano", device="cpu").tokenizer
    request = asked_faces[index]
    (answer,) = plain.describe([request])
    for au, score in answer.au_scores.items():
        logits = reference(**_plain_inputs(describer, request, describer.grammar.au_slot.format(code=au, name=""))).logits[0, -1]
        levels = [tokenizer.encode(word, add_special_tokens=False)[0] for word in LEVEL_CHOICES]
        shares = torch.softmax(logits[levels], -1).tolist()
        assert 1 - shares[0] == pytest.approx(score, abs=1e-4)
        if au in answer.au_intensities:
            expected = sum(level * share for level, share in enumerate(shares))
            assert answer.au_intensities[au] == pytest.approx(expected, abs=5e-4)
    logits = reference(**_plain_inputs(describer, request, describer.grammar.emotion_slot)).logits[0, -1]
    names = [tokenizer.encode(f" {name}", add_special_tokens=False)[0] for name in EMOTIONS]
    assert torch.softmax(logits[names], -1).tolist() == pytest.approx(list(answer.emotion_scores.values()), abs=1e-4)


def test_fields_are_the_mean_of_a_face_and_its_mirror_image(
    describer: TransformersDescriber, plain: TransformersDescriber, asked_faces: list[Request], answers: list[Answer]
) -> None:
    assert describer.grammar.mirror
    turned = [
        Request(np.ascontiguousarray(r.crop[:, ::-1]), (112 - r.box[2], r.box[1], 112 - r.box[0], r.box[3]), r.region) for r in asked_faces
    ]
    for answer, own, other in zip(answers, plain.describe(asked_faces), plain.describe(turned), strict=True):
        for au, score in answer.au_scores.items():
            assert score == pytest.approx((own.au_scores[au] + other.au_scores[mirrored_au(au)]) / 2, abs=1e-5)
        for name, score in answer.emotion_scores.items():
            assert score == pytest.approx((own.emotion_scores[name] + other.emotion_scores[name]) / 2, abs=1e-5)


def test_sentences_are_what_the_reference_generates(
    describer: TransformersDescriber, reference: Any, asked_faces: list[Request], answers: list[Answer]
) -> None:
    """Or the plain wording of the fields, where what it generates contradicts them."""
    kept = 0
    tokenizer = open_checkpoint("nano", device="cpu").tokenizer
    tokens = PromptTokens(tokenizer, describer.grammar, 112)
    for request, answer in list(zip(asked_faces, answers, strict=True))[::3]:
        inputs = _plain_inputs(describer, request, fields_text(answer.aus, answer.emotion, round(answer.age), answer.au_intensities))
        greedy = {"max_new_tokens": 96, "do_sample": False, "suppress_tokens": tokens.barred(answer)}
        written = reference.generate(**inputs, **greedy)[0, inputs["input_ids"].shape[1] :]
        sentence = tokenizer.decode(written, skip_special_tokens=True).strip()
        assert answer.description == checked(sentence, answer, request, NANO_AUS)
        assert answer.own_sentence == sentence
        kept += answer.description == sentence
    assert kept >= 3


def test_a_sentence_that_contradicts_its_fields_gives_way(asked_faces: list[Request], answers: list[Answer]) -> None:
    request, answer = next(pair for pair in zip(asked_faces, answers, strict=True) if pair[1].aus and pair[0].region == "face")
    age = round(answer.age)

    def kept(sentence: str) -> str:
        return checked(sentence, answer, request, NANO_AUS)

    truthful = compose(answer.aus, answer.emotion, age, random.Random(1), intensities=answer.au_intensities)
    assert kept(truthful) == truthful
    plain = compose(answer.aus, answer.emotion, age, intensities=answer.au_intensities)
    other = next(emotion for emotion in EMOTIONS if emotion != answer.emotion)
    missing = next(au for au in AUS if au not in answer.aus)
    for fields in (([*answer.aus, missing], answer.emotion, age), (answer.aus, other, age), (answer.aus, answer.emotion, age + 1)):
        assert kept(compose(*fields, intensities=answer.au_intensities)) == plain
    assert kept("") == plain
    of_face = f"The face looks {EMOTION_WORDS[answer.emotion][1]} and about {age} years old."
    mouth = replace(answer, aus=())
    assert checked(of_face, mouth, Request(request.crop, request.box, "mouth"), NANO_AUS).startswith("The mouth is at rest")


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_describer(str(tmp_path))
    with pytest.raises(ModelError, match="no LoRA adapter"):
        load_describer("nano", adapter=str(tmp_path))


def test_a_conversation_goes_on_from_what_was_said(asked_faces: list[Request]) -> None:
    """For a checkpoint that reads fields in context: the second turn reads what the reference model reads after the first answer."""
    checkpoint = open_checkpoint("nano", device="cpu")
    plain = TransformersDescriber(replace(checkpoint, grammar=replace(checkpoint.grammar, mirror=False, earlier_turns="all")))
    asked = [asked_faces[1], asked_faces[2]]
    first, second = plain.converse(asked)
    (alone,) = plain.describe(asked[:1])
    assert (first.aus, first.emotion, first.age, first.description) == (alone.aus, alone.emotion, alone.age, alone.description)
    text = _second_turn(plain, asked, first)
    au = next(au for au in second.au_scores if au in plain.aus)
    question, choices = plain.grammar.slots()[plain.aus.index(au)]
    logits = checkpoint.model(**_conversation(checkpoint, asked[0], text + question)).logits[0, -1]
    tokens = [checkpoint.tokenizer.encode(choice, add_special_tokens=False)[0] for choice in choices]
    assert second.au_scores[au] == pytest.approx(1 - float(logits[tokens].softmax(-1)[0]), abs=1e-4)


def test_nanos_turns_are_answered_like_single_questions(
    describer: TransformersDescriber, asked_faces: list[Request], answers: list[Answer]
) -> None:
    """nano answers later turns badly if it sees the earlier ones, so its checkpoint says that it does not."""
    assert describer.grammar.earlier_turns == "ignored"
    assert _alike(describer.converse(asked_faces), answers)


def test_a_checkpoint_may_let_only_its_sentences_see_the_earlier_turns(asked_faces: list[Request], answers: list[Answer]) -> None:
    """For conversations about several faces at once."""
    checkpoint = open_checkpoint("nano", device="cpu")
    describer = TransformersDescriber(replace(checkpoint, grammar=replace(checkpoint.grammar, earlier_turns="sentence")))
    turns = describer.converse(asked_faces)
    for one, other in zip(turns, answers, strict=True):
        assert (one.aus, one.emotion, one.age) == (other.aus, other.emotion, other.age)
        assert one.au_scores == pytest.approx(other.au_scores, abs=1e-5)
    tokens = PromptTokens(checkpoint.tokenizer, describer.grammar, 112)
    asked, (first, second) = asked_faces[:2], turns[:2]
    text = _second_turn(describer, asked, first) + fields_text(second.aus, second.emotion, round(second.age), second.au_intensities)
    inputs = _conversation(checkpoint, asked[0], text)
    written = checkpoint.model.generate(**inputs, max_new_tokens=96, do_sample=False, suppress_tokens=tokens.barred(second))
    assert second.own_sentence == tokens.decode(written[0, inputs["input_ids"].shape[1] :])
    assert describer.converse([]) == []


def test_a_grammar_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    Grammar(earlier_turns="some").save(tmp_path)
    with pytest.raises(ModelError, match="earlier_turns is 'some', not one of ignored, sentence, all"):
        Grammar.load(tmp_path)
    for wrong in (0, -1.0, "cold"):
        Grammar(age_temperature=wrong).save(tmp_path)  # type: ignore[arg-type]
        with pytest.raises(ModelError, match=r"age_temperature is .*, not a number above 0"):
            Grammar.load(tmp_path)


def test_a_temperature_narrows_the_age_interval_and_nothing_else(asked_faces: list[Request]) -> None:
    checkpoint = open_checkpoint("nano", device="cpu")
    wide, narrow = (
        TransformersDescriber(replace(checkpoint, grammar=replace(checkpoint.grammar, age_temperature=value))).read(asked_faces)
        for value in (1.0, 0.4)
    )
    for one, other in zip(wide, narrow, strict=True):
        assert one.au_scores == other.au_scores and one.emotion_scores == other.emotion_scores
        assert None not in (one.age_low, one.age_high, other.age_low, other.age_high)
        assert one.age_low <= other.age_low <= other.age <= other.age_high <= one.age_high  # type: ignore[operator]
    assert any(one.age_low != other.age_low for one, other in zip(wide, narrow, strict=True))


def _second_turn(describer: TransformersDescriber, asked: list[Request], first: Answer) -> str:
    said = fields_text(first.aus, first.emotion, round(first.age), first.au_intensities) + first.description + ANSWER_END
    return describer.grammar.instruction + region_text(asked[0].box) + said + region_text(asked[1].box)


def _conversation(checkpoint: Checkpoint, request: Request, text: str) -> dict[str, Any]:
    """A picture and a text as inputs of the reference model."""
    prefix = USER_START + IMAGE_TOKEN * 16 + USER_IMAGE_END
    ids = checkpoint.tokenizer(prefix + text, add_special_tokens=False, return_tensors="pt").input_ids
    (image,) = checkpoint.tokenizer.encode(IMAGE_TOKEN, add_special_tokens=False)
    pixels = patchify(torch.from_numpy(request.crop.copy()).permute(2, 0, 1)[None], mean=checkpoint.mean, std=checkpoint.std)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": pixels,
        "image_grid_thw": grid_thw(1, 112, 112),
        "mm_token_type_ids": (ids == image).int(),
    }


def test_reading_without_the_mirror_image_gives_the_fields_of_a_describer_that_does_not_use_it(
    describer: TransformersDescriber, plain: TransformersDescriber, asked_faces: list[Request]
) -> None:
    for one, other in zip(describer.read(asked_faces, mirror=False), plain.describe(asked_faces), strict=True):
        assert one.description == "" and other.description
        assert (one.aus, one.emotion, one.age) == (other.aus, other.emotion, other.age)
        assert one.au_scores == pytest.approx(other.au_scores, abs=1e-5)
