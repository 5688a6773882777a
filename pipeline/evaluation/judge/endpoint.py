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

from pipeline.errors import FocalfaceError, SettingsError

NO_ENDPOINT = "no judge: it needs the address of an OpenAI-compatible endpoint"
"""Why a benchmark that `find_endpoint` gives none has no judge's figures."""

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
    """The server will not answer this question; others it may."""


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server and a model there.

    Attributes:
        url: the base, such as `http://localhost:8000/v1`.
        model: the model's name there.
        key_variable: the environment variable with the key; not set where the server wants none. The key is never written anywhere.
    """

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"


def find_endpoint(url: str | None, model: str | None = None, key_variable: str = "OPENAI_API_KEY") -> Endpoint | None:
    """The endpoint at an address.

    Args:
        url: its base; None where there is none.
        model: the name there; None asks the server, which must then serve just one.

    Raises:
        SettingsError: when the address is not one, or the model must be named.
        FocalfaceError: when the server cannot be asked.
    """
    if not url:
        return None
    if not url.startswith(("http://", "https://")):
        raise SettingsError(f"the judge's address must begin with http:// or https://, unlike {url!r}")
    base = url.rstrip("/").removesuffix("/chat/completions")
    if model:
        return Endpoint(base, model, key_variable)
    with closing(Connection(Endpoint(base, "", key_variable), 1)) as connection:
        listed = connection.send("GET", "/models").get("data")
    names = [str(entry["id"]) for entry in listed if "id" in entry] if isinstance(listed, list) else []
    if len(names) != 1:
        raise SettingsError(f"name the judge's model; {base} serves {', '.join(names) or 'none that it names'}")
    return Endpoint(base, names[0], key_variable)


class _Key(AuthBase):
    """The key of every request; as a class of its own, so that no other source of keys (a .netrc file) takes its place."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.key:
            request.headers["Authorization"] = f"Bearer {self.key}"
        return request


class Connection:
    """Sends to an endpoint, from many threads: waits, asks a busy server again, and says in one line what is wrong for good."""

    def __init__(self, endpoint: Endpoint, concurrency: int) -> None:
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
        """Let go of the connections."""
        self._session.close()

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask, and take the JSON object that comes.

        Raises:
            RefusedError: when this question is refused, or answered by something else than a JSON object.
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
