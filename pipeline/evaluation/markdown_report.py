"""The report of an evaluation: a Markdown table of all figures beside the baselines, and tables of action units, regions and groups."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from pipeline.evaluation.groups import GroupFigures
from pipeline.evaluation.scoring import MODEL, Evaluation
from pipeline.vocabulary import UNIT

HEADS = {"majority": "majority class", "whole_face": "whole face, whatever the box", "random_box": "random box"}
"""Column heads of the baselines."""

_UP, _DOWN, _NEAR = "↑", "↓", "→"

FIGURES: tuple[tuple[str, str, str, str], ...] = (
    (_UP, "emotion_accuracy", "emotion accuracy", "emotion"),
    (_UP, "emotion_macro_f1", "emotion macro-F1", "emotion"),
    (_UP, "emotion_vote_share", "annotators who agree with the emotion", "votes"),
    (_UP, "emotion_vote_share_best", "... at best", "votes"),
    (_DOWN, "emotion_vote_kl", "emotion, divergence from the votes, nats", "votes"),
    (_DOWN, "emotion_ece", "emotion calibration error", "emotion"),
    (_UP, "au_f1_mean", "AUs, mean F1", "aus"),
    (_UP, "au_f1_micro", "AUs, micro F1", "aus"),
    (_UP, "au_precision_mean", "AUs, mean precision", "aus"),
    (_UP, "au_recall_mean", "AUs, mean recall", "aus"),
    (_UP, "au_ap_mean", "AUs, mean average precision", "aus"),
    (_UP, "au_intensity_r", "AU intensity, Pearson r", "aus"),
    (_UP, "au_intensity_icc", "... ICC(3,1)", "aus"),
    (_DOWN, "au_intensity_mae", "... mean absolute error, 0 to 5", "aus"),
    (_DOWN, "age_mae", "age error, years", "age"),
    (_UP, "age_within_5", "age within 5 years", "age"),
    (_NEAR, "age_coverage", "age interval holds the age (80% is right)", "age"),
    (_DOWN, "age_guess_mae", "age, distance from a model's guess, years", "guess"),
    (_UP, "region_au_f1", "AUs of a named region, F1", "aus"),
    (_UP, "box_au_f1", "AUs of a random box, F1", "aus"),
    (_UP, "in_turn_f1", "AUs in one conversation, F1 at turn", "aus"),
    (_UP, "apart_f1", "... the same boxes asked alone", "aus"),
    (_DOWN, "in_turn_loss", "... F1 lost at the fourth turn", "aus"),
    (_DOWN, "locality_violations", "AUs that the region cannot show", ""),
    (_DOWN, "locality_sentences", "... in its sentence", ""),
    (_DOWN, "locality_boxes", "... on random boxes", ""),
    (_DOWN, "excluded_pairs", "pairs of AUs that exclude each other", ""),
    (_UP, "faithfulness", "facts of the sentence", "all"),
    (_UP, "faithfulness_aus", "... AUs alone", "aus"),
    (_UP, "consistency", "the model's own sentence says exactly its fields", "fields"),
    (_UP, "consistency_final", "... the sentence given out", "fields"),
    (_DOWN, "sentences_replaced", "sentences replaced by the plain wording", ""),
    (_UP, "discrimination/accuracy", "region guessed from its sentence", ""),
    (_UP, "discrimination/score", "... 0 at chance, 1 always", ""),
    (_UP, "perturbation", "moving the box", ""),
    (_UP, "text/bleu4", "BLEU-4", "text"),
    (_UP, "text/rouge_l", "ROUGE-L", "text"),
    (_UP, "text/meteor", "METEOR", "text"),
    (_UP, "text/cider_d", "CIDEr-D", "text"),
    (_UP, "text/embedding_similarity", "embedding similarity", "text"),
    (_UP, "text/bertscore", "BERTScore", "text"),
    (_UP, "rege/emotion_rege", "REGE, emotion", "all"),
    (_UP, "rege/au_rege", "REGE, AUs", "all"),
)
"""Rows of the main table: which way is better, a figure's name (or that of several, `name/...`), its label, and what it is measured
against (a key of `_against`)."""


def markdown(evaluation: Evaluation) -> str:
    """The report of an evaluation; the same text in every run but for the speed."""
    kinds = Counter(row.question.kind for row in evaluation.table.rows)
    asked = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    speed = evaluation.predictions.regions_per_second
    lines = [
        f"# FaceFocalDesc benchmark: {evaluation.predictions.model}",
        "",
        f"{evaluation.table.faces} faces; questions: {asked}" + ("." if speed is None else f"; {speed:.0f} regions a second."),
        f"Action unit labels: {evaluation.origin.aus}. Age labels: {evaluation.origin.age}.",
        "In brackets: 95% bootstrap intervals over faces. Arrows: which way is better.",
        "",
        *_main_table(evaluation),
        "",
        *_unit_tables(evaluation),
    ]
    for group in evaluation.groups:
        lines += ["", *_group_table(group)]
    if evaluation.text_missing:
        lines += ["", "Not computed: " + "; ".join(f"{name} ({why})" for name, why in sorted(evaluation.text_missing.items())) + "."]
    if evaluation.signatures:
        lines += ["", "Text: " + "; ".join(f"{name}: {what}" for name, what in evaluation.signatures.items()) + "."]
    lines += ["", *_judge_table(evaluation.judge)]
    return "\n".join(lines) + "\n"


def _against(evaluation: Evaluation, key: str, source: str) -> str:
    """What a row is measured against, in a few words."""
    origin = evaluation.origin
    return {
        "": "-",
        "aus": origin.aus.partition(":")[0],
        "emotion": origin.emotion.get(source) or ", ".join(dict.fromkeys(origin.emotion.values())) or "-",
        "votes": "votes of annotators",
        "age": origin.age,
        "guess": "another model's estimate",
        "all": "all labels",
        "fields": "the answer's own fields",
        "text": "sentences composed from the labels",
    }[key]


def _main_table(evaluation: Evaluation) -> list[str]:
    """The table of all figures but those by unit and region; a figure that could not be computed has no row."""
    columns = evaluation.columns
    heads = [f"{HEADS.get(name, name)} ({len(set(column.table.row_faces))} faces)" for name, column in columns.items() if name != MODEL]
    lines = [_row("", evaluation.predictions.model, *heads, "measured against"), _row("---", *["---:" for _ in columns], "---")]
    for better, head, label, key in FIGURES:
        for name, value in columns[MODEL].values.items():
            if (name == head or name.startswith(f"{head}/")) and not math.isnan(value):
                part = name.removeprefix(head).removeprefix("/")
                cells = [_cell(evaluation, column, name) for column in columns]
                text = f"{better} {label}" + (f", {part}" if part else "")
                lines.append(_row(text, *cells, _against(evaluation, key, part)))
    return lines


def _unit_tables(evaluation: Evaluation) -> list[str]:
    """Action units on whole faces: share of active ones, precision, recall, F1, average precision; then the F1 of each region."""
    values = evaluation.columns[MODEL].values
    units = [name.removeprefix("au_f1/") for name in values if name.startswith("au_f1/")]
    whole = [row.question for row in evaluation.table.of_kinds("face").rows]
    lines = [_row("action unit", "active", "precision", "recall", "F1", "average precision"), _row("---", *["---:"] * 5)]
    for au in units:
        active = sum(au in q.aus for q in whole) / sum(au in q.visible for q in whole)
        cells = [_cell(evaluation, MODEL, f"{head}/{au}") for head in ("au_precision", "au_recall", "au_f1", "au_ap")]
        lines.append(_row(f"{au} {UNIT[au].name}", f"{active:.1%}", *cells))
    regions = [name for name in values if name.startswith("au_f1_by_region/")]
    lines += ["", _row("region", "action units, micro F1"), _row("---", "---:")]
    lines += [_row(name.partition("/")[2].replace("_", " "), _cell(evaluation, MODEL, name)) for name in regions]
    return lines


def _group_table(group: GroupFigures) -> list[str]:
    """The groups of one column; then each figure's worst group beside the mean of the groups."""
    names = list(dict.fromkeys(name for figures in group.values.values() for name in figures))
    lines = [
        f"By {group.column}:",
        "",
        _row(group.column, "faces", *[_words(name) for name in names]),
        _row("---", *["---:"] * (len(names) + 1)),
    ]
    for name, figures in group.values.items():
        cells = [_number_with_ends(*figures[key]) if key in figures else "-" for key in names]
        lines.append(_row(name, str(group.faces[name]), *cells))
    worst = group.worst()
    cells = [
        f"{worst[key]['group']}: {_number(worst[key]['value'])}; mean {_number(worst[key]['mean'])}" if key in worst else "-"
        for key in names
    ]
    return [*lines, _row("worst group; mean of groups", "", *cells)]


def _words(name: str) -> str:
    """A figure's label by its name."""
    head, _, part = name.partition("/")
    label = next((label for _, figure, label, _ in FIGURES if figure == head), head)
    return f"{label}, {part}" if part else label


def _judge_table(judge: dict[str, Any]) -> list[str]:
    """The judge's marks, and the comparisons with the baselines; or why there are none."""
    if "skipped" in judge:
        return [f"Not judged: {judge['skipped']}."]
    marks = ", ".join(f"{name} {value:.2f}" for name, value in judge["absolute"].items() if isinstance(value, float))
    lines = [f"Judged by {judge['model']} on {judge['absolute']['judged']} regions, 1 to 5: {marks or 'nothing'}.", ""]
    lines += [_row("against", "won", "lost", "tied", "win rate", "both orders agree"), _row("---", *["---:"] * 5)]
    for name, found in judge["pairwise"].items():
        shares = ["-" if found[key] is None else f"{found[key]:.3f}" for key in ("win_rate", "order_agreement")]
        lines.append(_row(HEADS.get(name, name), *[str(found[key]) for key in ("wins", "losses", "ties")], *shares))
    return lines


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cell(evaluation: Evaluation, column: str, name: str) -> str:
    """A figure with its interval; a dash where there is nothing to measure."""
    scores = evaluation.columns[column]
    return _number_with_ends(scores.values.get(name, math.nan), *scores.ends.get(name, (math.nan, math.nan)))


def _number_with_ends(value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return "-"
    return _number(value) + ("" if math.isnan(low) or low == high else f" ({_number(low)} to {_number(high)})")


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 2 else f"{value:.1f}" if abs(value) >= 20 else f"{value:.2f}"
