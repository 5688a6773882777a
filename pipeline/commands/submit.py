"""`focalface submit` and `focalface jobs`: the main job on a Ray cluster, through Ray's job server."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import shlex
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

PROJECT = Path(__file__).resolve().parents[2]
"""The working directory that is sent, less what `.rayignore` names."""

JOB = "jobs/describe.py"

HERE = "http://127.0.0.1:8265"

AGAIN_S = 2.0
"""Seconds between two tries to send or follow a job; more is gentler to a head that is starting and says later what happened."""

TRIES = 5
"""Times that a job is sent; more waits longer for a head that is starting."""

Address = Annotated[str, typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="Of the cluster's job server.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="As `focalface submit` said it.")]

app = typer.Typer(no_args_is_help=True, help="Look after jobs on a Ray cluster.")


def submit(
    context: typer.Context,
    address: Address = HERE,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow its log to the end.")] = True,
    env: Annotated[list[str] | None, typer.Option(metavar="NAME[=VALUE]", help="Variable that the job gets; repeatable.")] = None,
    debug: Debug = False,
) -> None:
    """Do what `focalface run` does, with its arguments and options, as a job on a Ray cluster.

    Videos and results must be where every node sees them: at the same path, or at a URL. The project is sent along; its packages must be
    installed there.

    Example: focalface submit s3://films/2024 --out s3://results/2024 --address http://HEAD:8265
    """
    words, settings = command(context.args)
    variables = _variables(env or ())
    client = _client(address)
    job = _send(client, words, variables, settings)
    print(f"job      {job}", flush=True)
    if not wait:
        print(f"follow   focalface jobs logs {job} --follow --address {address}")
        return
    try:
        _follow(client, job)
    except KeyboardInterrupt:
        print(f"the job goes on; to end it: focalface jobs stop {job} --address {address}", flush=True)
        raise


@app.command("list")
def list_jobs(address: Address = HERE, debug: Debug = False) -> None:
    """List the cluster's jobs, the latest first.

    Example: focalface jobs list --address http://HEAD:8265
    """
    jobs = [job for job in _client(address).list_jobs() if job.submission_id]
    for job in sorted(jobs, key=lambda job: job.start_time or 0, reverse=True):
        began = datetime.fromtimestamp((job.start_time or 0) / 1000).isoformat(" ", "seconds")
        print(f"{job.submission_id}  {job.status.value:<9}  {began}  {' '.join(job.entrypoint.split())}")


@app.command()
def status(job: JobId, address: Address = HERE, debug: Debug = False) -> None:
    """Say how a job stands.

    Example: focalface jobs status focalface-4f1d09b2c3aa --address http://HEAD:8265
    """
    details = _details(_client(address), job)
    print(f"{job}  {details.status.value}  {_message(details)}")


@app.command()
def logs(
    job: JobId,
    follow: Annotated[bool, typer.Option("--follow", help="Until it ends.")] = False,
    address: Address = HERE,
    debug: Debug = False,
) -> None:
    """Print what a job has said.

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
    """End a job; the same `focalface submit` goes on later.

    Example: focalface jobs stop focalface-4f1d09b2c3aa --address http://HEAD:8265
    """
    client = _client(address)
    _details(client, job)
    print(f"{job}  {'stopping' if client.stop_job(job) else 'has ended already'}")


def command(arguments: Sequence[str]) -> tuple[list[str], Settings]:
    """What the cluster is to execute, as words, for the arguments of `focalface run`; and the settings.

    Paths become absolute; settings, be they from options, a file or `--set`, become words, since the cluster has no such file.

    Raises:
        SettingsError, typer's errors: as `focalface run` does.
    """
    from pipeline.storage.remote import absolute, plain

    parser = typer.Typer(add_completion=False)
    parser.command()(run)
    given = typer.main.get_command(parser).make_context("focalface submit", list(arguments)).params
    if given["dry_run"]:
        raise SettingsError("--dry-run looks at files from here: use focalface run --dry-run")
    settings = settings_of(given)
    if settings.execution.address is not None:
        raise SettingsError("execution.address is the cluster's own in a job: leave it out, and give --address of the job server")
    words = ["python", JOB, "--out", absolute(plain(given["out"]))]
    words += ["--overwrite"] * given["overwrite"]
    usual = Settings().model_dump(mode="json")
    for group, values in settings.model_dump(mode="json").items():
        for key, value in values.items():
            if value != usual[group][key]:
                words += ["--set", f"{group}.{key}={json.dumps(value)}"]
    return [*words, "--", *(absolute(plain(item)) for item in given["inputs"])], settings


def _variables(given: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE`, or `NAME` for the value that it has here."""
    variables = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals and name not in os.environ:
            raise SettingsError(f"--env {name}: there is no such variable here; give it as {name}=VALUE")
        variables[name] = value if equals else os.environ[name]
    return variables


def _client(address: str) -> JobSubmissionClient:
    """The cluster's job server.

    Raises:
        FocalfaceError: when it does not answer.
    """
    if not address.startswith(("http://", "https://")):
        raise SettingsError(f"--address takes the job server's, as {HERE}, not {address}")
    if not (PROJECT / JOB).is_file():
        raise SettingsError(f"the project's folder, which is sent along, is not here: no {JOB} in {PROJECT}; install it in place")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for module in ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):  # two set levels of their own
        logging.getLogger(module).setLevel(logging.ERROR)
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise FocalfaceError(
            f"{address} wants the cluster's token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
        ) from error
    except (ConnectionError, RuntimeError) as error:
        raise FocalfaceError(f"no Ray job server answers at {address}: is the cluster up, and its dashboard's port reachable?") from error


def _send(client: JobSubmissionClient, words: Sequence[str], variables: dict[str, str], settings: Settings) -> str:
    """Start the job, once, however often the connection goes; its name.

    Raises:
        FocalfaceError: when the cluster does not take it.
    """
    job, fault = f"focalface-{secrets.token_hex(6)}", ""
    for _ in range(TRIES):
        try:
            return client.submit_job(
                entrypoint=shlex.join(words),
                runtime_env={"working_dir": str(PROJECT), "env_vars": variables},
                metadata={"focalface": json.dumps(settings.identity())},
                submission_id=job,
            )
        except (ConnectionError, OSError, RuntimeError) as error:
            fault = " ".join(str(error).split())
        with suppress(ConnectionError, OSError, RuntimeError):
            client.get_job_info(job)  # it arrived, only the answer did not
            return job
        time.sleep(AGAIN_S)
    raise FocalfaceError(f"the cluster does not take the job: {fault}")


def _details(client: JobSubmissionClient, job: str) -> Any:
    try:
        return client.get_job_info(job)
    except RuntimeError as error:
        raise FocalfaceError(f"the cluster knows no job {job}; focalface jobs list names those that it knows") from error


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
        with suppress(RuntimeError, aiohttp.ClientError, OSError):  # the connection may go, not the job
            asyncio.run(tail())
        time.sleep(AGAIN_S)
    rest = client.get_job_logs(job)[printed:]
    print(rest, end="" if not rest or rest.endswith("\n") else "\n", flush=True)
    if details.status.value != "SUCCEEDED":
        raise FocalfaceError(f"job {job} {details.status.value.lower()}: {_message(details)}")


def _message(details: Any) -> str:
    return " ".join((details.message or "").partition(", last available logs")[0].split())
