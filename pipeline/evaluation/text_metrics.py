"""Text metrics: similarity of a describer's sentences to reference sentences, by the implementations that papers cite.

Each metric gives the contribution of every answer to some sums (`TextScores.parts`) and the figure that follows from these sums (`pool`).
Bootstrap intervals are then those of the reported figure: BLEU and METEOR pool counts and are not means over sentences.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

import numpy as np
from sklearn.metrics import f1_score

from pipeline.errors import FocalfaceError, ModelError
from pipeline.evaluation.text_encoder import Encoder

METRICS = ("bleu4", "rouge_l", "meteor", "cider_d", "embedding_similarity", "bertscore")
"""The metrics. bleu4 is within 0 and 100, cider_d within 0 and 10, the others are at most 1, as their libraries give them."""

FABA_AUS = ("AU01", "AU02", "AU04", "AU05", "AU06", "AU10", "AU12", "AU17", "AU24", "AU25", "AU26", "AU43")
"""The twelve action units whose F1 FABA-Bench averages."""

BERTSCORE_LAYERS = {("bert", 12): 9, ("bert", 24): 18, ("roberta", 12): 10, ("roberta", 24): 17, ("distilbert", 6): 5, ("deberta", 48): 40}
"""Hidden layer that BERTScore uses, by architecture and depth: the layers that its authors found to agree best with people (table of the
package bert-score). Other models use their last layer."""


@dataclass(frozen=True)
class TextScores:
    """Text metrics of N answers; the keys of each mapping are names of `METRICS`.

    Attributes:
        overall: the figure over all answers; None where it could not be computed.
        missing: the reason for each that is None.
        per_item: (N,) float64, each answer's own score.
        parts: (N, K) float64, contribution of each answer to the K sums from which `pool` computes the figure.
        signatures: what exactly was computed (library, version, settings), for the report.
    """

    overall: dict[str, float | None]
    missing: dict[str, str]
    per_item: dict[str, np.ndarray]
    parts: dict[str, np.ndarray]
    signatures: dict[str, str]


@dataclass(frozen=True)
class _Scored:
    """Result of one metric, as in `TextScores`."""

    per_item: np.ndarray
    parts: np.ndarray
    signature: str


class _MissingError(Exception):
    """A metric cannot be computed here; the message is the reason."""


def text_scores(
    answers: Sequence[str | None],
    references: Sequence[Sequence[str]],
    sentence_model: Path | None = None,
    bert_model: Path | None = None,
) -> TextScores:
    """Compare sentences with reference sentences.

    BLEU-4 is sacrebleu's corpus BLEU (Post 2018); ROUGE-L rouge-score's F-measure with the best of an answer's references; METEOR 1.5
    (Denkowski and Lavie 2014) and CIDEr-D (Vedantam et al. 2015) are those of COCO's caption evaluation, over words split as sacrebleu
    splits them ("13a"), in lower case and without punctuation (COCO splits with a Java program; nothing else differs). Embedding similarity
    is the cosine of mean-pooled sentence embeddings and BERTScore its F (Zhang et al. 2020; no weighting by rarity, no rescaling), each the
    best of an answer's references.

    Args:
        answers: N sentences; None counts as empty.
        references: for each answer one sentence or more.
        sentence_model: a folder with a sentence model in safetensors and its tokenizer.
        bert_model: a folder with an encoder for BERTScore, likewise.

    Raises:
        FocalfaceError: there are not as many references as answers, or an answer has none.
        ModelError: a given folder holds no such model.

    >>> text_scores(["The brows are raised."], [["The brows are raised."]]).overall["rouge_l"]
    1.0
    """
    if len(answers) != len(references):
        raise FocalfaceError(f"there are {len(answers)} answers but references for {len(references)}; each answer needs its own")
    for row, texts in enumerate(references):
        if isinstance(texts, str) or not any(map(_has_words, texts)):
            raise FocalfaceError(f"answer {row} has no reference sentence; give each answer a list of at least one")
    said = [answer or "" for answer in answers]
    gold = [list(filter(_has_words, texts)) for texts in references]
    work: dict[str, Callable[[], _Scored]] = {
        "bleu4": lambda: _bleu(said, gold),
        "rouge_l": lambda: _rouge_l(said, gold),
        "meteor": lambda: _meteor(said, gold),
        "cider_d": lambda: _cider_d(said, gold),
        "embedding_similarity": lambda: _embedding_similarity(said, gold, sentence_model),
        "bertscore": lambda: _bertscore(said, gold, bert_model),
    }
    scores = TextScores(dict.fromkeys(METRICS), {}, {}, {}, {})
    for name, compute in work.items():
        try:
            if not said:
                raise _MissingError("there are no answers")
            scored = compute()
        except _MissingError as reason:
            scores.missing[name] = str(reason)
            continue
        scores.per_item[name], scores.parts[name], scores.signatures[name] = scored.per_item, scored.parts, scored.signature
        scores.overall[name] = float(pool(name, scored.parts.sum(0)[:, None])[0])
    return scores


def pool(metric: str, sums: np.ndarray) -> np.ndarray:
    """The figure of a metric from sums of `TextScores.parts`.

    Args:
        metric: one of `METRICS`.
        sums: (K, R) for R resamples of the answers.

    Returns:
        (R,) figures; NaN for a resample without answers.
    """
    if metric == "bleu4":
        from sacrebleu.metrics.bleu import BLEU

        scores = [BLEU.compute_bleu(list(s[:4]), list(s[4:8]), int(s[8]), int(s[9]), "exp").score for s in sums.T]
        return np.where(sums[9] > 0, scores, np.nan)
    if metric == "meteor":
        return np.where(sums[1] > 0, _meteor_score(sums), np.nan)
    return np.divide(sums[0], sums[1], out=np.full(sums.shape[1], np.nan), where=sums[1] > 0)


def _mean_of(values: Sequence[float] | np.ndarray, signature: str) -> _Scored:
    """A metric that is the mean of the sentences' scores."""
    array = np.asarray(values, np.float64)
    return _Scored(array, np.stack([array, np.ones_like(array)], 1), signature)


def _bleu(answers: list[str], references: list[list[str]]) -> _Scored:
    from sacrebleu.metrics.bleu import BLEU

    single = BLEU(effective_order=True)  # same counts; a sentence's own score leaves out orders longer than itself
    scores = [single.sentence_score(answer, texts) for answer, texts in zip(answers, references, strict=True)]
    corpus = BLEU()
    corpus.corpus_score(answers, list(itertools.zip_longest(*references)))  # only for the signature
    parts = np.array([[*s.counts, *s.totals, s.sys_len, s.ref_len] for s in scores], np.float64)
    return _Scored(np.array([s.score for s in scores]), parts, f"sacrebleu {corpus.get_signature()}")


def _rouge_l(answers: list[str], references: list[list[str]]) -> _Scored:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    values = [scorer.score_multi(texts, answer)["rougeL"].fmeasure for answer, texts in zip(answers, references, strict=True)]
    return _mean_of(values, f"rouge-score {metadata.version('rouge-score')}, F-measure, no stemming, best reference")


def _has_words(text: str | None) -> bool:
    return any(map(str.isalnum, text or ""))


def _words(texts: Sequence[str]) -> list[str]:
    """Sentences as words separated by single spaces, as CIDEr and METEOR take them."""
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    split = Tokenizer13a()
    return [" ".join(word for word in split(text.lower()).split() if _has_words(word)) for text in texts]


def _coco() -> tuple[Path, str]:
    """Folder and version of COCO's caption evaluation."""
    found = util.find_spec("pycocoevalcap")
    if found is None or not found.submodule_search_locations:
        raise _MissingError("needs the package pycocoevalcap")
    version = f"pycocoevalcap {metadata.version('pycocoevalcap')}, 13a words, lower case, no punctuation"
    return Path(next(iter(found.submodule_search_locations))), version


def _cider_d(answers: list[str], references: list[list[str]]) -> _Scored:
    _, version = _coco()
    if len(answers) < 2:
        raise _MissingError("weighs words by how many answers' references hold them, so it needs at least two answers")
    from pycocoevalcap.cider.cider import Cider

    gold = {row: _words(texts) for row, texts in enumerate(references)}
    _, values = Cider().compute_score(gold, {row: [text] for row, text in enumerate(_words(answers))})
    return _mean_of(values, version)


@functools.cache
def _meteor_program() -> subprocess.Popen[str]:
    """METEOR's own Java program. It takes about 10 s to start, so it stays open and waits for lines until this process ends."""
    folder, _ = _coco()
    java = shutil.which("java")
    if java is None:
        raise _MissingError("needs Java")
    command = [java, "-Xmx2G", "-Dfile.encoding=UTF-8", "-jar", "meteor-1.5.jar", "-", "-", "-stdio", "-l", "en", "-norm"]
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    program = subprocess.Popen(command, cwd=folder / "meteor", stdin=pipe, stdout=pipe, stderr=nowhere, encoding="utf-8", bufsize=1)
    atexit.register(program.kill)
    return program


def _meteor(answers: list[str], references: list[list[str]]) -> _Scored:
    """Counts of matched words from METEOR's own program: exact, by stem, by synonym and by paraphrase."""
    _, version = _coco()
    program, rows = _meteor_program(), []
    assert program.stdin is not None and program.stdout is not None
    try:
        for answer, texts in zip(_words(answers), references, strict=True):
            program.stdin.write(" ||| ".join(["SCORE", *_words(texts), answer]) + "\n")
            rows.append(program.stdout.readline().split())
        parts = np.array(rows, np.float64).reshape(len(answers), 23)
    except (OSError, ValueError) as error:
        _meteor_program.cache_clear()
        raise _MissingError("METEOR's Java program ended without an answer") from error
    word_for_word = (parts[:, 20] == 1) & (parts[:, 21] == parts[:, 0]) & (parts[:, 22] == parts[:, 1])
    parts[word_for_word, 20] = 0  # as in METEOR: no penalty, and no chunk in the sums
    return _Scored(_meteor_score(parts.T), parts, f"METEOR 1.5 -l en -norm, {version}")


def _meteor_score(counts: np.ndarray) -> np.ndarray:
    """METEOR 1.5 from its counts, with the parameters for English (Denkowski and Lavie 2014, "Meteor Universal", section 3).

    Args:
        counts: (23, R): words in the answer and in the reference, function words in each; for each of the four matchers content words
            matched in the answer and in the reference, function words in each; chunks; words matched in each.

    Returns:
        (R,) scores in [0, 1].
    """
    alpha, beta, gamma, delta = 0.85, 0.2, 0.6, 0.75
    weights = np.array([1.0, 0.6, 0.8, 0.6])

    def share(words: np.ndarray, function_words: np.ndarray, content: np.ndarray, function: np.ndarray) -> np.ndarray:
        matched = weights @ (delta * content + (1 - delta) * function)
        return _over(matched, delta * (words - function_words) + (1 - delta) * function_words)

    precision = share(counts[0], counts[2], counts[4:20:4], counts[6:20:4])
    recall = share(counts[1], counts[3], counts[5:20:4], counts[7:20:4])
    mean = _over(precision * recall, alpha * precision + (1 - alpha) * recall)
    return mean * (1 - gamma * _over(counts[20], (counts[21] + counts[22]) / 2) ** beta)


def _over(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.zeros_like(below), where=below > 0)


def _best(answers: list[str], references: list[list[str]], score: Callable[[str, str], float]) -> list[float]:
    """The score of each answer with its best reference; 0 for an empty answer."""
    return [
        max(score(answer, text) for text in texts) if answer.strip() else 0.0 for answer, texts in zip(answers, references, strict=True)
    ]


def _embedding_similarity(answers: list[str], references: list[list[str]], folder: Path | None) -> _Scored:
    if folder is None:
        raise _MissingError("needs a local sentence model")
    pooling = folder / "1_Pooling" / "config.json"
    if pooling.is_file() and not json.loads(pooling.read_text(encoding="utf-8")).get("pooling_mode_mean_tokens", True):
        raise ModelError(f"{folder} is a sentence model without mean pooling; choose one that has it")
    states = Encoder(folder).read([*answers, *itertools.chain(*references)], -1)
    vectors = {text: vectors.mean(0) / np.linalg.norm(vectors.mean(0)) for text, (vectors, _) in states.items()}
    return _mean_of(
        _best(answers, references, lambda answer, text: float(vectors[answer] @ vectors[text])),
        f"{folder.name}, cosine of mean-pooled embeddings, best reference",
    )


def _bertscore(answers: list[str], references: list[list[str]], folder: Path | None) -> _Scored:
    if folder is None:
        raise _MissingError("needs a local BERT model")
    encoder = Encoder(folder)
    config = encoder.model.config
    layer = BERTSCORE_LAYERS.get((config.model_type, config.num_hidden_layers), config.num_hidden_layers)
    states = encoder.read([*answers, *itertools.chain(*references)], layer)
    vectors = {text: (found / np.linalg.norm(found, axis=1, keepdims=True), words) for text, (found, words) in states.items()}

    def fmeasure(answer: str, text: str) -> float:
        (a, a_words), (b, b_words) = vectors[answer], vectors[text]
        if not (a_words.any() and b_words.any()):
            return 0.0
        cosine = a @ b.T
        precision, recall = float(cosine.max(1)[a_words].mean()), float(cosine.max(0)[b_words].mean())
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    signature = f"BERTScore F, {folder.name}, layer {layer}, no idf, no rescaling, best reference"
    return _mean_of(_best(answers, references, fmeasure), signature)


def rege(
    gold_emotions: Sequence[str | None],
    emotions: Sequence[str],
    gold_aus: Sequence[frozenset[str]],
    aus: Sequence[frozenset[str]],
    rouge_l: Sequence[float] | np.ndarray,
    units: Sequence[str] = FABA_AUS,
) -> dict[str, float | None]:
    """REGE of FABA-Bench: recognition and generation in one figure, S_rege = S_re + S_ge, in points.

    From Li et al. 2024, "Facial Affective Behavior Analysis with Instruction Tuning" (EmoLA, arXiv 2404.05052), as in its code:
    S_re is the accuracy for emotion and the mean F1 over twelve action units (those that occur at all) for action units; S_ge is the mean
    ROUGE-L F over answers. EmoLA describes emotion and action units in two texts with a ROUGE each; here one sentence says
    both, so S_ge is shared. EmoLA reads fields off the words; here they are the answer's own. EmoLA's ROUGE is the package `rouge`, whose
    longest subsequence counts a repeated word once: on this project's sentences it gives about a point less.

    Args:
        gold_emotions, emotions: N each; answers without a gold emotion do not count for it.
        gold_aus, aus: N sets each, of action units active.
        rouge_l: (N,) each answer's ROUGE-L, as `TextScores.per_item["rouge_l"]`.
        units: the action units to average over.

    Returns:
        `emotion_recognition`, `au_recognition`, `generation`, `emotion_rege`, `au_rege`, in points (a REGE is at most 200); None
        where there is nothing to measure.

    >>> rege(["fear"], ["fear"], [frozenset()], [frozenset()], [0.5])["emotion_rege"]
    150.0
    """
    hits = [gold == said for gold, said in zip(gold_emotions, emotions, strict=True) if gold is not None]
    pairs = list(zip(gold_aus, aus, strict=True))
    seen = [au for au in units if any(au in gold or au in said for gold, said in pairs)]
    f1 = [f1_score([au in gold for gold, _ in pairs], [au in said for _, said in pairs], zero_division=0) for au in seen]

    def points(values: Sequence[float] | np.ndarray) -> float | None:
        return 100 * float(np.mean(values)) if len(values) else None

    emotion, au, generation = points(hits), points(f1), points(rouge_l)

    def both(recognition: float | None) -> float | None:
        return None if recognition is None or generation is None else recognition + generation

    return {
        "emotion_recognition": emotion,
        "au_recognition": au,
        "generation": generation,
        "emotion_rege": both(emotion),
        "au_rege": both(au),
    }
