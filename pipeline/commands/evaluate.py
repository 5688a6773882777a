"""`focalface eval`: the FaceFocalDesc benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from pipeline.commands.checks import check_checkpoint
from pipeline.commands.options import Adapter, Backend, Debug, Device, Endpoint, Model
from pipeline.errors import SettingsError, writing
from pipeline.execution.progress import Steps
from pipeline.settings import load_settings

if TYPE_CHECKING:
    from pipeline.evaluation.predictions import Predictions
    from pipeline.evaluation.scoring import Evaluation

PREDICTIONS = "predictions.parquet"


def evaluate(
    faces: Annotated[Path, typer.Argument(metavar="FACES", help="Labelled faces: a Parquet file, or a folder of `focalface dataset`.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the report, all predictions and the plots.", show_default="none")] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
    answers: Annotated[Path | None, typer.Option(help="Score this Parquet file of answers instead of a model's.")] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Split the figures by a column of FACES, as sex or age, or by eye_distance, sharpness, yaw, pitch, readable; repeatable.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use only this many faces, from the first.")] = None,
    judge: Annotated[str | None, typer.Option(metavar="URL", help="OpenAI-compatible server that judges sentences.")] = None,
    judge_model: Annotated[str | None, typer.Option(help="Model of the judge.", show_default="the only one there")] = None,
    sentence_model: Annotated[Path | None, typer.Option(help="Folder of a sentence model, for embedding similarity.")] = None,
    bert_model: Annotated[Path | None, typer.Option(help="Folder of a BERT model, for BERTScore.")] = None,
    model: Model = None,
    adapter: Adapter = None,
    backend: Backend = None,
    endpoint: Endpoint = None,
    device: Device = None,
    debug: Debug = False,
) -> None:
    """Measure a model, or a file of answers, on labelled faces: recognition, sentences, regions and conversations, beside baselines.

    Example: focalface eval val.parquet --model nano --out outputs/benchmark

    Example: focalface eval val.parquet --by sex --by age --json figures.json
    """
    options = {"model": model, "adapter": adapter, "backend": backend, "endpoint": endpoint, "device": device, "batch_size": 64}
    settings = load_settings(options={f"describe.{key}": value for key, value in options.items()}).describe
    from pipeline.evaluation.preconditions import check_preconditions

    columns = tuple(dict.fromkeys(by or ()))
    check_preconditions(faces, columns, answers, [folder for folder in (sentence_model, bert_model) if folder], judge, out)
    if not answers:
        check_checkpoint(settings)
    for folder in (out, as_json.parent if as_json else None):
        _make_folder(folder)

    from pipeline.evaluation.face_files import label_origin
    from pipeline.evaluation.judge.endpoint import find_endpoint
    from pipeline.evaluation.markdown_report import markdown
    from pipeline.evaluation.predictions import ask, read_answers
    from pipeline.evaluation.scoring import evaluate as score

    judging = find_endpoint(judge, judge_model)
    with Steps() as steps:
        if answers:
            predictions = read_answers(answers, faces, limit, columns)
        else:
            from pipeline.describe.backends import load_describer

            describer = load_describer(**settings.load_options())
            predictions = ask(describer, faces, limit, columns, lambda done, total: steps.say("asking", done, total))
        if out:  # before the scoring, so that an error there costs no answers: --answers reads them
            _write_predictions(out / PREDICTIONS, predictions)
        evaluation = score(
            predictions, sentence_model=sentence_model, bert_model=bert_model, by=columns, origin=label_origin(faces), progress=steps.say
        )
        if judging and out:
            from pipeline.evaluation.judge.run import judge_answers

            evaluation.judge = judge_answers(evaluation, faces, judging, out / "judge.sqlite", steps.say)
        report = markdown(evaluation)
        try:
            if out:
                steps.say("drawing")
                _write_report(out, report, evaluation, faces)
            if as_json:
                as_json.write_text(json.dumps(evaluation.as_json(), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"cannot write {error.filename}: {error.strerror}") from error
    Console().print(Markdown(report))
    if out:
        print(f"report  {out / 'benchmark.md'}")


def _make_folder(folder: Path | None) -> None:
    if folder:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)


def _write_predictions(file: Path, predictions: Predictions) -> None:
    import pyarrow.parquet as pq

    from pipeline.evaluation.predictions import to_table

    with writing(file):
        pq.write_table(to_table(predictions), file, compression="zstd")


def _write_report(folder: Path, report: str, evaluation: Evaluation, faces: Path) -> None:
    """Write the report and its plots."""
    from pipeline.evaluation.plots import draw_figures

    figures = draw_figures(evaluation, faces, folder)
    shown = "".join(f"\n![{path.stem.replace('_', ' ')}]({path.name})\n" for path in figures)
    (folder / "benchmark.md").write_text(report + shown, encoding="utf-8")
