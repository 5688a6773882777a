"""The benchmark in words: one Markdown table with intervals and baselines side by side, and one of the action units."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from pipeline.evaluation.scoring import MODEL, Evaluation
from pipeline.vocabulary import UNIT

HEADS = {"majority": "majority class", "whole_face": "whole face, whatever the box", "random_box": "random box"}
"""The baselines' columns."""

_UP, _DOWN = "↑", "↓"

FIGURES: tuple[tuple[str, str, str], ...] = (
    (_UP, "emotion_accuracy", "emotion accuracy"),
    (_UP, "emotion_macro_f1", "emotion macro-F1"),
    (_DOWN, "emotion_ece", "emotion calibration error"),
    (_UP, "au_f1_mean", "AUs, mean F1"),
    (_UP, "au_f1_micro", "AUs, micro F1"),
    (_UP, "au_precision_mean", "AUs, mean precision"),
    (_UP, "au_recall_mean", "AUs, mean recall"),
    (_UP, "au_ap_mean", "AUs, mean average precision"),
    (_DOWN, "age_mae", "age error, years"),
    (_UP, "age_within_5", "age within 5 years"),
    (_UP, "region_au_f1", "AUs of a named region, F1"),
    (_UP, "box_au_f1", "AUs of a random box, F1"),
    (_DOWN, "locality_violations", "AUs that the region cannot show"),
    (_DOWN, "locality_sentences", "... in its sentence"),
    (_DOWN, "locality_boxes", "... on random boxes"),
    (_UP, "faithfulness", "facts of the sentence"),
    (_UP, "faithfulness_aus", "... AUs alone"),
    (_UP, "consistency", "the model's own sentence says exactly its fields"),
    (_UP, "consistency_final", "... the sentence given out"),
    (_DOWN, "sentences_replaced", "sentences replaced by the plain wording"),
    (_UP, "discrimination/accuracy", "region told from its sentence"),
    (_UP, "discrimination/score", "... 0 at chance, 1 always"),
    (_UP, "perturbation", "moving the box"),
    (_UP, "text/bleu4", "BLEU-4"),
    (_UP, "text/rouge_l", "ROUGE-L"),
    (_UP, "text/meteor", "METEOR"),
    (_UP, "text/cider_d", "CIDEr-D"),
    (_UP, "text/embedding_similarity", "embedding similarity"),
    (_UP, "text/bertscore", "BERTScore"),
    (_UP, "rege/emotion_rege", "REGE, emotion"),
    (_UP, "rege/au_rege", "REGE, AUs"),
)
"""The rows of the main table: which way is better, a figure's name (or that of several, `name/...`), what it is called."""


def markdown(evaluation: Evaluation) -> str:
    """The report of an evaluation; the same text at every run but for the speed."""
    kinds = Counter(row.question.kind for row in evaluation.table.rows)
    asked = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    speed = evaluation.predictions.regions_per_second
    lines = [
        f"# FaceFocalDesc benchmark: {evaluation.predictions.model}",
        "",
        f"{evaluation.table.faces} faces; questions: {asked}" + ("." if speed is None else f"; {speed:.0f} regions a second."),
        "In brackets 95% bootstrap intervals over faces. Labels of action units are a machine's, not a certified coder's.",
        "",
        *_main(evaluation),
        "",
        *_units(evaluation),
    ]
    if evaluation.text_missing:
        lines += ["", "Not worked out: " + "; ".join(f"{name} ({why})" for name, why in sorted(evaluation.text_missing.items())) + "."]
    if evaluation.signatures:
        lines += ["", "Text: " + "; ".join(f"{name}: {what}" for name, what in evaluation.signatures.items()) + "."]
    lines += ["", *_judged(evaluation.judge)]
    return "\n".join(lines) + "\n"


def _main(evaluation: Evaluation) -> list[str]:
    """The table of all figures but those by unit and region; what could not be worked out has no row."""
    columns = evaluation.columns
    heads = [f"{HEADS.get(name, name)} ({len(set(column.table.row_faces))} faces)" for name, column in columns.items() if name != MODEL]
    lines = [_row("", evaluation.predictions.model, *heads), _row("---", *["---:" for _ in columns])]
    for better, head, label in FIGURES:
        for name, value in columns[MODEL].values.items():
            if (name == head or name.startswith(f"{head}/")) and not math.isnan(value):
                part = name.removeprefix(head).replace("/", ", ")
                lines.append(_row(f"{better} {label}{part}", *[_cell(evaluation, column, name) for column in columns]))
    return lines


def _units(evaluation: Evaluation) -> list[str]:
    """Units on whole faces: how often, precision, recall, F1, average precision; then the F1 of each region."""
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


def _judged(judge: dict[str, Any]) -> list[str]:
    """The judge's marks, and who won against whom; or why there are none."""
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
    value = scores.values.get(name, math.nan)
    if math.isnan(value):
        return "-"
    low, high = scores.ends.get(name, (math.nan, math.nan))
    return _number(value) + ("" if math.isnan(low) or low == high else f" ({_number(low)} to {_number(high)})")


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 2 else f"{value:.1f}" if abs(value) >= 20 else f"{value:.2f}"
