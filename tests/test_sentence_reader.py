"""The reader of sentences against sentences written by hand: paraphrases, grades, denials, and words for all action units.

No sentence here comes from the project's own templates; one test crosses the reader with the vocabulary, which was written apart from it.
"""

from __future__ import annotations

import random

import pytest

from pipeline.describe.sentences import compose
from pipeline.evaluation.sentence_reader import Reading, read_sentence, says_fields
from pipeline.vocabulary import AUS, CUSTOM_BOX, EMOTION_WORDS, EMOTIONS, REGIONS, UNIT, region_aus

SENTENCES = [
    # one action unit each, in words of people
    ("He lifts the inner ends of his eyebrows.", "AU01", "", ""),
    ("There is a slight raising of the inner brow.", "AU01", "", ""),
    ("The outer eyebrows arch strongly.", "AU02", "", ""),
    ("Tails of the brows pulled upward.", "AU02", "", ""),
    ("Both eyebrows shoot up.", "AU01 AU02", "", ""),
    ("The inner and outer brows are raised.", "AU01 AU02", "", ""),
    ("She is frowning.", "AU04", "", ""),
    ("Her brow is deeply furrowed.", "AU04", "", ""),
    ("Eyebrows pinched together and pulled down.", "AU04", "", ""),
    ("The eyes are wide open.", "AU05", "", ""),
    ("Widened eyes stare at the camera.", "AU05", "", ""),
    ("The upper eyelids rise a little.", "AU05", "", ""),
    ("The cheeks bunch under the eyes.", "AU06", "", ""),
    ("Crow's feet crinkle.", "AU06", "", ""),
    ("Lower lids tensed.", "AU07", "", ""),
    ("He squints, his eyes narrowed to slits.", "AU07", "", ""),
    ("A crinkled nose.", "AU09", "", ""),
    ("The skin along the bridge of the nose is wrinkled.", "AU09", "", ""),
    ("The upper lip curls upwards.", "AU10", "", ""),
    ("Nasolabial furrows look pronounced.", "AU11", "", ""),
    ("The mouth curves up at its corners into a faint smile.", "AU12", "", ""),
    ("Mouth corners strongly raised.", "AU12", "", ""),
    ("He grins.", "AU12", "", ""),
    ("A genuine smile.", "AU06 AU12", "", ""),
    ("One lip corner is tightened and dimpled.", "AU14", "", ""),
    ("The corners of her lips droop.", "AU15", "", ""),
    ("The mouth is turned down.", "AU15", "", ""),
    ("The lower lip is depressed, exposing the lower teeth.", "AU16 AU25", "", ""),
    ("The chin boss is wrinkled and pushes up.", "AU17", "", ""),
    ("Pursed lips.", "AU18", "", ""),
    ("The lips protrude as if to whistle.", "AU18", "", ""),
    ("The lips are drawn out sideways.", "AU20", "", ""),
    ("The mouth is stretched horizontally.", "AU20", "", ""),
    ("The lips are thinned and tense.", "AU23", "", ""),
    ("Her lips are firmly squeezed against each other.", "AU24", "", ""),
    ("Lips tightly compressed.", "AU24", "", ""),
    ("The mouth is a little open.", "AU25", "", ""),
    ("The lips separate slightly.", "AU25", "", ""),
    ("His jaw has dropped.", "AU26", "", ""),
    ("The mouth hangs open.", "AU25 AU26", "", ""),
    ("The mouth is stretched wide open in a scream.", "AU27", "", ""),
    ("The lips are folded inward over the teeth.", "AU28", "", ""),
    ("Eyes firmly shut.", "AU43", "", ""),
    ("The eyelids droop.", "AU43", "", ""),
    ("The gaze turns to the image's right.", "AU61", "", ""),
    ("The eyes look to the person's own left.", "AU61", "", ""),
    ("The eyes glance to the left of the picture.", "AU62", "", ""),
    ("The gaze is directed upwards.", "AU63", "", ""),
    ("Eyes downcast.", "AU64", "", ""),
    ("AU12 and AU 6 are active.", "AU06 AU12", "", ""),
    # several at once, with emotion and age
    ("Smiling broadly with raised cheeks, this joyful woman looks about 25.", "AU06 AU12", "happiness", "25"),
    ("Brows up, eyes wide, jaw slack: astonished, perhaps forty-two years old.", "AU01 AU02 AU05 AU26", "surprise", "42"),
    ("A man of sixty, furious: the brows come down, the lids tighten and the lips press together.", "AU04 AU07 AU24", "anger", "60"),
    ("A nine-year-old; the chin trembles upward while the lip corners sink, a picture of sorrow.", "AU15 AU17", "sadness", "9"),
    ("His nose scrunches and his upper lip rises in revulsion.", "AU09 AU10", "disgust", ""),
    ("With parted lips, lifted cheeks and a wrinkled nose, the child of 4 appears amused.", "AU06 AU09 AU25", "happiness", "4"),
    ("Terrified, aged eighteen; the eyebrows are drawn up and together.", "AU01 AU02 AU04", "fear", "18"),
    ("The lips are parted and sucked in.", "AU25 AU28", "", ""),
    ("The corners of the mouth are slightly upturned, forming a gentle smile.", "AU12", "", ""),
    ("The eyebrows are slightly lowered and drawn closer together, creating vertical wrinkles between them.", "AU04", "", ""),
    ("The upper lip is slightly raised, showing the teeth.", "AU10 AU25", "", ""),
    ("The jaw is relaxed and the mouth is slightly open.", "AU25", "", ""),
    ("The cheeks are pushed upward by a broad smile.", "AU06 AU12", "", ""),
    ("The forehead shows horizontal lines as the eyebrows go up.", "AU01 AU02", "", ""),
    ("The mouth is closed and the lips are relaxed.", "", "", ""),
    # denials and things at rest
    ("The lips are not parted but pressed together.", "AU24", "", ""),
    ("No smile, and the brows do not move.", "", "", ""),
    ("Without a frown, the woman of 30 shows no clear emotion.", "", "neutral", "30"),
    ("The eyes are open and relaxed; neither angry nor afraid, she is expressionless.", "", "neutral", ""),
    ("He looks sad rather than angry.", "", "sadness", ""),
    ("An unhappy face.", "", "sadness", ""),
    ("All is quiet around the mouth.", "", "", ""),
    ("The lower lip and the upper lid are seen clearly.", "", "", ""),
    ("One eye is hidden, two people stand behind, 0.7 of the picture is dark, 40% is sky.", "", "", ""),
]
"""Sentence, action units, emotion, age."""


@pytest.mark.parametrize(("sentence", "aus", "emotion", "age"), SENTENCES)
def test_a_sentence_is_read_as_a_person_reads_it(sentence: str, aus: str, emotion: str, age: str) -> None:
    assert read_sentence(sentence) == Reading(frozenset(aus.split()), frozenset(emotion.split()), frozenset(map(int, age.split())))


def test_every_action_unit_is_on_the_list() -> None:
    assert set(AUS) <= {au for _, aus, _, _ in SENTENCES for au in aus.split()}


@pytest.mark.parametrize(
    ("sentence", "right"),
    [
        ("A happy man of 31 whose lip corners go up and whose lips are parted.", True),
        ("A happy man of thirty-one: smiling, mouth open.", True),
        ("A happy man of 31 whose lip corners go up.", False),
        ("A happy man of 31 whose lip corners go up and whose lips are parted, with a lowered brow.", False),
        ("A happy man of 31 whose lip corners go down and whose lips are parted.", False),
        ("A sad man of 31 whose lip corners go up and whose lips are parted.", False),
        ("A happy, surprised man of 31 whose lip corners go up and whose lips are parted.", False),
        ("A happy man of 32 whose lip corners go up and whose lips are parted.", False),
        ("A happy man of 30 to 32 whose lip corners go up and whose lips are parted.", False),
        ("A man of 31 whose lip corners go up and whose lips are parted.", False),
        ("A happy man whose lip corners go up and whose lips are parted.", False),
        ("", False),
    ],
)
def test_a_wrong_claim_or_a_missing_one_is_noticed(sentence: str, right: bool) -> None:
    assert says_fields(sentence, ("AU12", "AU25"), "happiness", 30.6) == right


def test_the_words_of_the_vocabulary_are_understood() -> None:
    """The vocabulary's clauses and the reader were written apart: each clause must be read as the unit that it stands for."""
    clauses = {clause: au for au in AUS for clause in UNIT[au].clauses}
    wrong = {
        clause: read_sentence(clause)
        for clause, au in clauses.items()
        if read_sentence(clause) != Reading(frozenset([au]), frozenset(), frozenset())
    }
    assert not wrong
    words = {word: emotion for emotion, words in EMOTION_WORDS.items() for word in words}
    assert {word: read_sentence(f"The face looks {word}.").emotions for word in words} == {w: {e} for w, e in words.items()}


def test_composed_sentences_say_their_fields_and_no_others() -> None:
    """The wordings of `compose` and the reader were written apart, too."""
    chance = random.Random(7)
    for _ in range(300):
        region = chance.choice((*REGIONS, CUSTOM_BOX))
        can_show = region_aus(region, (0, 0, 112, 112))
        aus = tuple(au for au in can_show if chance.random() < 0.2)
        emotion, age = chance.choice(EMOTIONS), chance.randrange(1, 100)
        sentence = compose(aus, emotion, age, chance, region=region, empty=not can_show)
        assert says_fields(sentence, aus, emotion, age), sentence
        other = chance.choice(AUS)
        assert not says_fields(sentence, tuple(set(aus) ^ {other}), emotion, age), sentence
        assert not says_fields(sentence, aus, chance.choice([name for name in EMOTIONS if name != emotion]), age), sentence
        assert not says_fields(sentence, aus, emotion, age + 1), sentence
