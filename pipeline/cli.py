"""The command `focalface`: its subcommands, its exit codes and its one-line errors."""

from __future__ import annotations

import inspect
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from pipeline import __version__
from pipeline.commands import agree, bench, dataset, describe, evaluate, models, people, report, run, submit, train, trends
from pipeline.commands.extras import needs
from pipeline.errors import FocalfaceError, FocalfaceWarning

app = typer.Typer(name="focalface", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

INTERRUPTED = 130
"""Exit code after Ctrl-C and after SIGTERM."""


def _version(wanted: bool) -> None:
    if wanted:
        print(f"focalface {__version__}")
        raise typer.Exit


@app.callback()
def focalface(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Turn video into tables and words about faces: what each region of each face is doing, moment by moment."""


def _add(name: str, command: Callable[..., None], **options: Any) -> None:
    """Add a command. Its help is its docstring, each paragraph as one line for the terminal to wrap."""
    text = inspect.cleandoc(command.__doc__ or "")
    app.command(name, help=re.sub(r"(?<!\n)\n(?!\n|Example:)", " ", text), **options)(command)


_add("run", run.run)
_add(
    "submit",
    submit.submit,
    options_metavar="VIDEO_OR_FOLDER_OR_GLOB... --out URL [OPTIONS]",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
app.add_typer(submit.app, name="jobs")
_add("describe", describe.describe)
_add("models", models.models)
app.add_typer(dataset.app, name="dataset")
_add("people", people.people)
_add("trends", trends.trends)
_add("report", report.report)
_add("agree", agree.agree)
_add("eval", needs("eval", evaluate.evaluate))
_add("bench", needs("bench", bench.bench))
_add("train", needs("train", train.train))


def _show(others: Callable[..., None]) -> Callable[..., None]:
    """A `warnings.showwarning` that prints focalface's own warnings as one line and leaves the others as they are."""

    def show(message: Warning | str, category: type[Warning], *about: Any, **more: Any) -> None:
        if issubclass(category, FocalfaceWarning):
            print(f"focalface: {message}", file=sys.stderr, flush=True)
        else:
            others(message, category, *about, **more)

    return show


def _remedy(error: ImportError) -> str:
    """What to do about a package that cannot be imported."""
    if "libGL" in str(error):
        return "OpenCV asks for a graphics library that this machine lacks: pip uninstall opencv-python; pip install opencv-python-headless"
    return "the installation is incomplete; pip install focalface (--debug shows where)"


def _renamed(word: str) -> str:
    """An option under its present name; `--engine` was that of version 0.1."""
    option, equals, value = word.partition("=")
    return f"--backend{equals}{value}" if option == "--engine" else word


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit.

    Exit codes: 0 when the command did its work; 1 when every file failed, or after a bug; 2 with one line on stderr when the input or an
    option is wrong; 130 after Ctrl-C or SIGTERM.

    Args:
        arguments: by default those of the process.
    """
    words = [_renamed(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    fault: BaseException | None = None
    message = ""
    warnings.showwarning = _show(warnings.showwarning)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stopped job ends as an interrupted command does
    try:
        code = app(words, standalone_mode=False) or 0
        if code == INTERRUPTED:
            message = "stopped; run the same command again to resume"
    except typer.TyperException as error:
        fault, code, message = error, error.exit_code, error.format_message()
    except FocalfaceError as error:
        fault, code, message = error, 2, str(error)
    except ImportError as error:
        fault, code, message = error, 1, f"{' '.join(str(error).split())}: {_remedy(error)}"
    except Exception as error:  # a bug of this program
        fault, code, message = error, 1, f"{type(error).__name__}: {' '.join(str(error).split())} (--debug shows where)"
    if fault and "--debug" in words:
        traceback.print_exception(fault)
    if message:
        print(f"focalface: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
