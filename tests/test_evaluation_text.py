"""Text metrics: hand-computed values, the libraries' own figures, and input as it comes."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from importlib import util
from pathlib import Path

import numpy as np
import pytest
import torch
from sacrebleu.metrics.bleu import BLEU
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from pipeline.errors import FocalfaceError, ModelError
from pipeline.evaluation import text_metrics
from pipeline.evaluation.text_metrics import METRICS, TextScores, pool, rege, text_scores

SAID = [
    "The brows are raised and the look is sad.",
    "the lips are parted, look",
    "The inner brows are raised, the look is sad.",
    "",
    None,
    "é 中文 the 😀 \u2028 lips",
    "||| the lips | are parted |||",
]
GOLD = [
    ["The inner brows are raised and the look is sad."],
    ["the lips are parted", "the look is sad", "the lips part"],
    ["The inner brows are raised, the look is sad."],
    ["the look is sad"],
    ["the look is sad", "sad"],
    ["é 中文 the lips"],
    ["the lips are parted"],
]
needs_coco = pytest.mark.skipif(not util.find_spec("pycocoevalcap"), reason="needs the package pycocoevalcap")
needs_meteor = pytest.mark.skipif(not (util.find_spec("pycocoevalcap") and shutil.which("java")), reason="needs pycocoevalcap and Java")


@pytest.fixture(scope="module")
def scores() -> TextScores:
    return text_scores(SAID, GOLD)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small real BERT of random weights with a tokenizer that knows a few words."""
    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "inner", "brows", "are", "raised", "look", "is", "sad", "lips", "parted", ".", ","]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 40}
    BertModel(BertConfig(vocab_size=len(words), **size)).save_pretrained(folder)
    return folder


def test_every_metric_has_a_figure_or_a_reason(scores: TextScores) -> None:
    assert tuple(scores.overall) == METRICS
    for name, value in scores.overall.items():
        assert (value is None) == (name in scores.missing)
        if value is not None:
            assert math.isfinite(value) and scores.signatures[name]
            assert scores.per_item[name].shape == (len(SAID),) and np.isfinite(scores.per_item[name]).all()
            assert len(scores.parts[name]) == len(SAID)
    assert scores.missing["embedding_similarity"] == "needs a local sentence model"
    assert scores.missing["bertscore"] == "needs a local BERT model"


def test_the_same_words_score_full() -> None:
    said = ["The inner brows are raised, the look is sad.", "The lips are parted and the jaw is dropped."]
    scores = text_scores(said, [[sentence] for sentence in said])
    assert scores.overall["bleu4"] == pytest.approx(100)
    assert scores.overall["rouge_l"] == 1
    assert scores.overall["meteor"] in (None, pytest.approx(1))
    assert scores.overall["cider_d"] in (None, pytest.approx(10))


def test_other_words_score_nothing() -> None:
    scores = text_scores(["apples", "pears"], [["the brows"], ["the lips"]])
    assert all(value in (0, None) for value in scores.overall.values())


def test_bleu_by_hand() -> None:
    """4 of 5 words, 3 of 4 pairs, 2 of 3 triples, 1 of 2 quadruples; as long as the reference."""
    assert text_scores(["a b c d e"], [["a b c d f"]]).overall["bleu4"] == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    # all that is said is right, but it is one word of six short
    assert text_scores(["a b c d e"], [["a b c d e f"]]).overall["bleu4"] == pytest.approx(100 * math.exp(1 - 6 / 5))


def test_bleu_is_sacrebleus_own(scores: TextScores) -> None:
    metric = BLEU()
    corpus = metric.corpus_score([answer or "" for answer in SAID], list(itertools.zip_longest(*GOLD)))
    assert scores.overall["bleu4"] == pytest.approx(corpus.score, abs=1e-9)
    assert scores.signatures["bleu4"] == f"sacrebleu {metric.get_signature()}"


def test_rouge_by_hand() -> None:
    """Four words in order of four said and five wanted: precision 1, recall 0.8. The best reference counts."""
    one = text_scores(["the brows are raised"], [["the inner brows are raised"]])
    many = text_scores(["the brows are raised"], [["sad", "the inner brows are raised", "the lips"]])
    assert one.overall["rouge_l"] == many.overall["rouge_l"] == pytest.approx(2 * 0.8 / 1.8)
    turned = text_scores(["raised are brows the"], [["the brows are raised"]])
    assert turned.overall["rouge_l"] == pytest.approx(0.25)


@needs_coco
def test_cider_d_by_hand() -> None:
    """Each word stands in one answer's references, so all words weigh the same; n-grams of 1 and 2 words score, of 3 and 4 there are none.

    The first is as wanted: (1 + 1) / 4. The second has one word of two right: (1/2 + 0) / 4. The third says a word too much: 2 of 3 words
    and 1 of 2 pairs against 2 and 1, and a pair more than wanted, which costs exp(-1 / (2 * 6^2)). All by 10.
    """
    said = ["brows raised", "lips raised", "jaw dropped wide"]
    scores = text_scores(said, [["brows raised"], ["lips parted"], ["jaw dropped"]])
    third = (2 / math.sqrt(6) + 1 / math.sqrt(2)) / 4 * math.exp(-1 / 72)
    assert scores.per_item["cider_d"] == pytest.approx([5, 1.25, 10 * third])
    assert scores.overall["cider_d"] == pytest.approx((5 + 1.25 + 10 * third) / 3)


@needs_coco
def test_one_answer_has_no_cider_d() -> None:
    scores = text_scores(["the brows"], [["the brows"]])
    assert scores.overall["cider_d"] is None and "two answers" in scores.missing["cider_d"]


@needs_meteor
def test_meteor_is_its_programs_own(scores: TextScores) -> None:
    """The program's final scores, asked of it for the counts it gave, are ours from these counts."""
    program = text_metrics._meteor_program()
    assert program.stdin is not None and program.stdout is not None
    given = []
    for answer, texts in zip(SAID, GOLD, strict=True):
        program.stdin.write(" ||| ".join(["SCORE", *text_metrics._words(texts), *text_metrics._words([answer or ""])]) + "\n")
        given.append(program.stdout.readline().strip())
    program.stdin.write(" ||| ".join(["EVAL", *given]) + "\n")
    own = [float(program.stdout.readline()) for _ in range(len(SAID) + 1)]
    assert scores.per_item["meteor"] == pytest.approx(own[:-1], abs=1e-9)
    assert scores.overall["meteor"] == pytest.approx(own[-1], abs=1e-9)
    assert len(set(own)) > 3


@needs_meteor
def test_meteor_knows_stems_and_synonyms() -> None:
    scores = text_scores(["the lips part", "a glad person", "a stone wall"], [["the lip parts"], ["a happy person"], ["a happy person"]])
    stem, synonym, neither = scores.per_item["meteor"]
    assert stem > 0.4 and synonym > neither


def test_a_resample_scores_as_if_it_were_the_answers(scores: TextScores) -> None:
    """What bootstrap intervals rest on. (CIDEr-D weighs words by all references there are, which a resample keeps.)"""
    index = np.array([0, 0, 1, 2, 5, 3])
    again = text_scores([SAID[i] for i in index], [GOLD[i] for i in index])
    for name in set(scores.parts) - {"cider_d"}:
        pooled = pool(name, np.stack([scores.parts[name][index].sum(0), scores.parts[name].sum(0)], 1))
        assert pooled == pytest.approx([again.overall[name], scores.overall[name]])
    assert all(np.isnan(pool(name, np.zeros((parts.shape[1], 1)))).all() for name, parts in scores.parts.items())


def test_two_runs_agree_to_the_digit(scores: TextScores) -> None:
    again = text_scores(SAID, GOLD)
    assert again.overall == scores.overall
    assert all(np.array_equal(again.per_item[name], scores.per_item[name]) for name in scores.per_item)


def test_empty_answers_score_nothing_and_spoil_nothing(scores: TextScores) -> None:
    for values in scores.per_item.values():
        assert values[3] == values[4] == 0
        assert values[2] == values.max() > 0


def test_no_answers() -> None:
    scores = text_scores([], [])
    assert set(scores.overall.values()) == {None} and set(scores.missing.values()) == {"there are no answers"}


@pytest.mark.parametrize(
    ("answers", "references", "says"),
    [
        (["a", "b"], [["a"]], "2 answers but references for 1"),
        (["a", "b"], [["a"], []], "answer 1 has no reference"),
        (["a"], [["", " ..."]], "answer 0 has no reference"),
        (["a"], ["the brows"], "a list of at least one"),
    ],
)
def test_what_does_not_fit_is_refused(answers: list[str], references: list[list[str]], says: str) -> None:
    with pytest.raises(FocalfaceError, match=says):
        text_scores(answers, references)


def _states(folder: Path, sentence: str) -> np.ndarray:
    """A sentence's last hidden states, read alone."""
    tokens = AutoTokenizer.from_pretrained(folder)(sentence, return_tensors="pt")
    with torch.inference_mode():
        return AutoModel.from_pretrained(folder)(**tokens).last_hidden_state[0].numpy()


def test_similarity_of_embeddings_and_bertscore(bert: Path) -> None:
    said, gold = (
        ["the brows are raised", "the lips", "", "sad"],
        [["the inner brows are raised, the look is sad ."], ["the lips"], ["sad"], ["the brows", "sad"]],
    )
    scores = text_scores(said, gold, bert, bert)
    a, b = _states(bert, said[0]), _states(bert, gold[0][0])
    cosine = a.mean(0) @ b.mean(0) / np.linalg.norm(a.mean(0)) / np.linalg.norm(b.mean(0))
    assert scores.per_item["embedding_similarity"] == pytest.approx([cosine, 1, 0, 1], abs=1e-5)

    near = [[float(x @ y / np.linalg.norm(x) / np.linalg.norm(y)) for y in b] for x in a]
    precision = np.mean([max(row) for row in near[1:-1]])
    recall = np.mean([max(row[j] for row in near) for j in range(1, len(b) - 1)])
    assert scores.per_item["bertscore"] == pytest.approx([2 * precision * recall / (precision + recall), 1, 0, 1], abs=1e-5)
    assert abs(scores.per_item["bertscore"][0] - 1) > 0.01 and "layer 3" in scores.signatures["bertscore"]


def test_long_and_odd_sentences_are_read(bert: Path) -> None:
    scores = text_scores(["the brows " * 500, "中文 😀"], [["the lips"], ["中文"]], bert, bert)
    assert np.isfinite(scores.per_item["bertscore"]).all() and np.isfinite(scores.per_item["embedding_similarity"]).all()


def test_folders_that_hold_no_model(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no folder"):
        text_scores(["a"], [["a"]], tmp_path / "none")
    with pytest.raises(ModelError, match="no text model"):
        text_scores(["a"], [["a"]], bert_model=tmp_path)
    pickled = shutil.copytree(bert, tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    torch.save({}, pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match="no text model"):
        text_scores(["a"], [["a"]], pickled)
    first_word = shutil.copytree(bert, tmp_path / "first_word")
    (first_word / "1_Pooling").mkdir()
    (first_word / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}))
    with pytest.raises(ModelError, match="mean"):
        text_scores(["a"], [["a"]], first_word)


def test_rege_by_hand() -> None:
    """Emotion: 2 of 3 known. AU01: 1 hit, 1 too many: F1 2/3. AU12: 1 missed: 0. AU25 nowhere: left out. ROUGE-L: 0.4."""
    none = frozenset[str]()
    found = rege(
        ["fear", "anger", None, "sadness"],
        ["fear", "anger", "fear", "neutral"],
        [frozenset({"AU01"}), none, frozenset({"AU12"}), frozenset({"AU09"})],
        [frozenset({"AU01"}), frozenset({"AU01"}), none, none],
        [0.1, 0.5, 0.6, 0.4],
        ["AU01", "AU12", "AU25"],
    )
    assert found["emotion_recognition"] == pytest.approx(200 / 3)
    assert found["au_recognition"] == pytest.approx(100 / 3)
    assert found["generation"] == pytest.approx(40)
    assert found["emotion_rege"] == pytest.approx(200 / 3 + 40)
    assert found["au_rege"] == pytest.approx(100 / 3 + 40)


def test_rege_of_nothing_and_of_all() -> None:
    assert set(rege([], [], [], [], []).values()) == {None}
    smile = frozenset({"AU12"})
    assert rege([None], ["fear"], [smile], [smile], [1.0]) == {
        "emotion_recognition": None,
        "au_recognition": 100.0,
        "generation": 100.0,
        "emotion_rege": None,
        "au_rege": 200.0,
    }


@needs_meteor
@pytest.mark.slow
def test_a_meteor_program_that_dies_is_missing(scores: TextScores) -> None:
    text_metrics._meteor_program().kill()
    text_metrics._meteor_program().wait()
    dead = text_scores(SAID, GOLD)
    assert dead.overall["meteor"] is None and "ended without an answer" in dead.missing["meteor"]
    assert dead.overall["cider_d"] == scores.overall["cider_d"]
    assert text_metrics._meteor_program.cache_info().currsize == 0


@needs_coco
def test_without_java_meteor_alone_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    text_metrics._meteor_program.cache_clear()
    monkeypatch.setenv("PATH", "")
    scores = text_scores(["the brows", "a"], [["the brows"], ["b"]])
    assert scores.overall["meteor"] is None and scores.missing["meteor"] == "needs Java"
    assert scores.overall["cider_d"] is not None
