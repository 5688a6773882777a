"""The endpoint that judges: where it is, and which model it serves."""

from __future__ import annotations

from pipeline.describe.endpoint import Endpoint, list_models
from pipeline.errors import SettingsError

NO_ENDPOINT = "no judge: it needs the address of an OpenAI-compatible endpoint"
"""Why an evaluation that `find_endpoint` gives none has no judge's figures."""


def find_endpoint(url: str | None, model: str | None = None, key_variable: str = "OPENAI_API_KEY") -> Endpoint | None:
    """The endpoint at an address.

    Args:
        url: its base; None for no endpoint.
        model: name of the model there; None asks the server, which must then serve exactly one.
        key_variable: environment variable with the server's key.

    Raises:
        SettingsError: the address is not one, or the model must be named.
        FocalfaceError: the server cannot be asked.
    """
    if not url:
        return None
    if not url.startswith(("http://", "https://")):
        raise SettingsError(f"the judge's address must begin with http:// or https://, unlike {url!r}")
    base = url.rstrip("/").removesuffix("/chat/completions")
    if model:
        return Endpoint(base, model, key_variable)
    names = list_models(base, key_variable)
    if len(names) != 1:
        raise SettingsError(f"name the judge's model; {base} serves {', '.join(names) or 'none that it names'}")
    return Endpoint(base, names[0], key_variable)
