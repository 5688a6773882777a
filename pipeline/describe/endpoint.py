"""A connection to an OpenAI-compatible endpoint, such as a vLLM server or a hosted one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.util import Retry

from pipeline.errors import FocalfaceError

CONNECT_S = 10.0
"""Seconds to wait for a connection; a far or sleeping server needs more."""

TIMEOUT_S = 180.0
"""Seconds to wait for an answer to begin; a slow model with a long queue needs more."""

RETRIES = 6
"""Times that a busy or failing server is asked again, with waits of 0, 2, 4 ... 32 s or as long as it says."""

MAX_WAIT_S = 300.0
"""A server that asks for a longer wait than this is asked again after it."""

_BUSY = (408, 429, 500, 502, 503, 504)


class RefusedError(FocalfaceError):
    """The server does not answer this question; it may answer others."""


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server and a model there.

    Attributes:
        url: base address, such as `http://localhost:8000/v1`.
        model: name of the model there.
        key_variable: environment variable with the key; not set where the server wants none. The key is never written anywhere.
    """

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"


def list_models(url: str, key_variable: str = "OPENAI_API_KEY") -> list[str]:
    """Names of the models that a server says it has.

    Raises:
        FocalfaceError: when the server cannot be asked.
    """
    with closing(Connection(Endpoint(url, "", key_variable), 1)) as connection:
        listed = connection.send("GET", "/models").get("data")
    return [str(entry["id"]) for entry in listed if isinstance(entry, dict) and "id" in entry] if isinstance(listed, list) else []


class _Key(AuthBase):
    """Adds the key to every request. As a class of its own it prevents that `requests` takes a key from a .netrc file."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.key:
            request.headers["Authorization"] = f"Bearer {self.key}"
        return request


class Connection:
    """Sends requests to an endpoint, from many threads. Waits, asks a busy server again, and reports a lasting error in one line."""

    def __init__(self, endpoint: Endpoint, concurrency: int) -> None:
        """Prepare a pool of connections.

        Args:
            endpoint: where to send to.
            concurrency: requests sent at the same time at most.
        """
        self.endpoint = endpoint
        retry = Retry(
            RETRIES,
            connect=2,
            read=2,
            backoff_factor=1,
            status_forcelist=_BUSY,
            allowed_methods=None,
            raise_on_status=False,
            retry_after_max=MAX_WAIT_S,  # type: ignore[arg-type]
        )
        self._session = requests.Session()
        self._key = self._session.auth = _Key(os.environ.get(endpoint.key_variable, ""))
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=concurrency, max_retries=retry))

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send a request and return the JSON object of the reply.

        Args:
            method: `GET` or `POST`.
            path: after the base address, with its slash.
            body: JSON to send.

        Raises:
            RefusedError: when this question is refused, or the reply is not a JSON object.
            FocalfaceError: when no question can be answered: no server, a wrong key, path or model, or it stays busy.
        """
        url = self.endpoint.url + path
        try:
            response = self._session.request(method, url, json=body, timeout=(CONNECT_S, TIMEOUT_S), allow_redirects=False)
        except (requests.RequestException, UnicodeError) as error:
            raise FocalfaceError(
                f"the endpoint at {url} does not answer ({type(error).__name__}); is it up, and the address right?"
            ) from error
        status = response.status_code
        if status != 200:
            said = " ".join(response.text.split())[:200]
            message = f"the endpoint at {url} answers {status}: {said.replace(self._key.key, '***') if self._key.key else said}"
            if status in (401, 403):
                raise FocalfaceError(f"{message}; put its key into the environment variable {self.endpoint.key_variable}")
            if status in (*_BUSY, 404) or status < 400:
                raise FocalfaceError(message)
            raise RefusedError(message)
        try:
            found = response.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise RefusedError(f"{url} answers with something else than a JSON object, unlike an OpenAI-compatible endpoint")
        return found
