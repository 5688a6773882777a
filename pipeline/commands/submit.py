"""`focalface submit` and `focalface jobs`: the main job on a Ray cluster, through Ray's job server."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.commands.options import Debug
from pipeline.commands.run import run, settings_of
from pipeline.errors import FocalfaceError, SettingsError
from pipeline.settings import Settings

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

PACKAGE = Path(__file__).resolve().parents[1]
"""The package `pipeline`, as it is installed or cloned here: what is sent to the cluster, model included."""

NOT_SENT = ["__pycache__"]

HERE = "http://127.0.0.1:8265"

AGAIN_S = 2.0
"""Seconds between two attempts to send or follow a job. A longer pause is gentler to a head node that is starting."""

TRIES = 5
"""Attempts to send a job. More attempts wait longer for a head node that is starting."""

LACKS_PACKAGES = "the node's Python lacks a package that focalface needs: install it there, or choose another Python with --python"

Address = Annotated[str, typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="Address of the cluster's job server.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's name, as `focalface submit` printed it.")]

app = typer.Typer(no_args_is_help=True, help="List, follow and stop jobs on a Ray cluster.")


def submit(
    context: typer.Context,
    address: Address = HERE,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the job's log until the job ends.")] = True,
    env: Annotated[
        list[str] | None, typer.Option(metavar="NAME[=VALUE]", help="Environment variable to set for the job; repeatable.")
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(help="Python to start on the head node.", show_default="this one where the node has it, else python"),
    ] = None,
    debug: Debug = False,
) -> None:
    """Run `focalface run` as a job on a Ray cluster.

    Takes all arguments and options of `focalface run`. Every node must be able to read the videos and write the results: at the same path,
    or at a URL. focalface itself is sent with the job; the packages that it needs must be installed on the nodes.

    Example: focalface submit s3://films/2024 --out s3://results/2024 --address http://HEAD:8265
    """
    words, settings = command(context.args)
    variables = _variables(env or ())
    client = _client(address)
    job = _send(client, entrypoint(words, python), variables, settings)
    print(f"job      {job}", flush=True)
    if not wait:
        print(f"follow   focalface jobs logs {job} --follow --address {address}")
        return
    try:
        _follow(client, job)
    except KeyboardInterrupt:
        print(f"the job continues; to stop it: focalface jobs stop {job} --address {address}", flush=True)
        raise


@app.command("list")
def list_jobs(address: Address = HERE, debug: Debug = False) -> None:
    """List the cluster's jobs, latest first.

    Example: focalface jobs list --address http://HEAD:8265
    """
    jobs = [job for job in _client(address).list_jobs() if job.submission_id]
    for job in sorted(jobs, key=lambda job: job.start_time or 0, reverse=True):
        began = datetime.fromtimestamp((job.start_time or 0) / 1000).isoformat(" ", "seconds")
        print(f"{job.submission_id}  {job.status.value:<9}  {began}  {' '.join(job.entrypoint.split())}")


@app.command()
def status(job: JobId, address: Address = HERE, debug: Debug = False) -> None:
    """Show the status of a job.

    Example: focalface jobs status focalface-4f1d09b2c3aa --address http://HEAD:8265
    """
    details = _details(_client(address), job)
    print(f"{job}  {details.status.value}  {_message(details)}")


@app.command()
def logs(
    job: JobId,
    follow: Annotated[bool, typer.Option("--follow", help="Keep printing until the job ends.")] = False,
    address: Address = HERE,
    debug: Debug = False,
) -> None:
    """Print the log of a job.

    Example: focalface jobs logs focalface-4f1d09b2c3aa --follow --address http://HEAD:8265
    """
    client = _client(address)
    _details(client, job)
    if follow:
        _follow(client, job)
    else:
        print(client.get_job_logs(job), end="")


@app.command()
def stop(job: JobId, address: Address = HERE, debug: Debug = False) -> None:
    """Stop a job. The same `focalface submit` resumes it later.

    Example: focalface jobs stop focalface-4f1d09b2c3aa --address http://HEAD:8265
    """
    client = _client(address)
    _details(client, job)
    print(f"{job}  {'stopping' if client.stop_job(job) else 'has already ended'}")


def command(arguments: Sequence[str]) -> tuple[list[str], Settings]:
    """Translate the arguments of `focalface run` into the command line that runs on the cluster.

    Paths become absolute. Settings from options, a file or `--set` become `--set` words, because the cluster does not have the file.

    Returns:
        The words that follow `focalface`, and the settings.

    Raises:
        SettingsError, typer's errors: as `focalface run` does.
    """
    from pipeline.storage.remote import absolute, plain

    parser = typer.Typer(add_completion=False)
    parser.command()(run)
    given = typer.main.get_command(parser).make_context("focalface submit", list(arguments)).params
    if given["dry_run"]:
        raise SettingsError("--dry-run reads the files from this machine: use focalface run --dry-run")
    settings = settings_of(given)
    if settings.execution.address is not None:
        raise SettingsError("execution.address is set by the cluster in a job: leave it out, and give the job server's --address")
    words = ["run", "--set", "execution.address=auto", "--verbose", "--out", absolute(plain(given["out"]))]
    words += ["--overwrite"] * given["overwrite"]
    usual = Settings().model_dump(mode="json")
    for group, values in settings.model_dump(mode="json").items():
        for key, value in values.items():
            if value != usual[group][key]:
                words += ["--set", f"{group}.{key}={json.dumps(value)}"]
    return [*words, "--", *(absolute(plain(item)) for item in given["inputs"])], settings


def entrypoint(words: Sequence[str], python: str | None = None) -> str:
    """The shell command that starts `focalface` with these words on the head node.

    Args:
        words: arguments of `focalface`.
        python: interpreter on the node. By default the one that runs here, where the node has it at the same path (the same machine,
            a shared disk, an image built alike), else the first `python` of the node.
    """
    here = f'"$(command -v {shlex.quote(sys.executable)} || echo python)"'
    # -P: what is sent counts, not a folder of the same name where the node starts the job
    return f"{shlex.quote(python) if python else here} -P -m pipeline.cli {shlex.join(words)}"


def _variables(given: Sequence[str]) -> dict[str, str]:
    """Variables from `NAME=VALUE`, or `NAME` for the value of this environment.

    Raises:
        SettingsError: when this environment has no such variable.
    """
    variables = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals and name not in os.environ:
            raise SettingsError(f"--env {name}: this environment has no such variable; give it as {name}=VALUE")
        variables[name] = value if equals else os.environ[name]
    return variables


def _client(address: str) -> JobSubmissionClient:
    """A client of the cluster's job server.

    Raises:
        FocalfaceError: when the server does not answer.
    """
    if not address.startswith(("http://", "https://")):
        raise SettingsError(f"--address takes the URL of a job server, such as {HERE}, not {address}")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for module in ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):  # two set levels of their own
        logging.getLogger(module).setLevel(logging.ERROR)
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise FocalfaceError(
            f"{address} asks for the cluster's token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
        ) from error
    except (ConnectionError, RuntimeError) as error:
        raise FocalfaceError(f"no Ray job server answers at {address}: is the cluster up, and its dashboard's port reachable?") from error


def _send(client: JobSubmissionClient, command: str, variables: dict[str, str], settings: Settings) -> str:
    """Start the job, exactly once even where the connection fails in between; returns its name.

    Raises:
        FocalfaceError: when the cluster does not accept the job.
    """
    job, fault = f"focalface-{secrets.token_hex(6)}", ""
    for _ in range(TRIES):
        try:
            return client.submit_job(
                entrypoint=command,
                runtime_env={"py_modules": [str(PACKAGE)], "excludes": NOT_SENT, "env_vars": variables},
                metadata={"focalface": json.dumps(settings.identity())},
                submission_id=job,
            )
        except (ConnectionError, OSError, RuntimeError) as error:
            fault = " ".join(str(error).split())
        with suppress(ConnectionError, OSError, RuntimeError):
            client.get_job_info(job)  # the job arrived, only the answer was lost
            return job
        time.sleep(AGAIN_S)
    raise FocalfaceError(f"the cluster does not accept the job: {fault}")


def _details(client: JobSubmissionClient, job: str) -> Any:
    try:
        return client.get_job_info(job)
    except RuntimeError as error:
        raise FocalfaceError(f"the cluster knows no job {job}; focalface jobs list shows those that it knows") from error


def _follow(client: JobSubmissionClient, job: str) -> None:
    """Print a job's log as it grows.

    Raises:
        FocalfaceError: when the job fails or is stopped.
    """
    import aiohttp

    printed = 0

    async def tail() -> None:
        nonlocal printed
        seen = 0
        async for text in client.tail_job_logs(job):  # from the beginning every time
            seen += len(text)
            if seen > printed:
                print(text[len(text) - (seen - printed) :] if seen - printed < len(text) else text, end="", flush=True)
                printed = seen

    while not (details := _details(client, job)).status.is_terminal():
        with suppress(RuntimeError, aiohttp.ClientError, OSError):  # the connection may fail; the job continues
            asyncio.run(tail())
        time.sleep(AGAIN_S)
    rest = client.get_job_logs(job)[printed:]
    print(rest, end="" if not rest or rest.endswith("\n") else "\n", flush=True)
    if details.status.value != "SUCCEEDED":
        hint = f"; {LACKS_PACKAGES}" if "ModuleNotFoundError" in (details.message or "") else ""
        raise FocalfaceError(f"job {job} {details.status.value.lower()}: {_message(details)}{hint}")


def _message(details: Any) -> str:
    """What the cluster says of a job, in one line."""
    return " ".join((details.message or "").partition(", last available logs")[0].split())
