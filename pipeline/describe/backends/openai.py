"""The OpenAI backend: any vision-language model behind an OpenAI-compatible endpoint, such as a vLLM server or a hosted one.

For each box the server gets the aligned face as a PNG data URI with the box's coordinates, and is asked for the fields as one JSON object.
If the reply comes with log-probabilities of its tokens, the scores are the model's own probabilities of the values, each given the values
before it. If not, the answer has the values that the model states and no scores. A second request asks for the sentence.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import exp
from typing import Any, TypeVar

import cv2
import numpy as np

from pipeline.describe.describer import BaseDescriber, Prompt, resized
from pipeline.describe.endpoint import Connection, Endpoint, RefusedError, list_models
from pipeline.describe.fields import YEARS, Fields
from pipeline.describe.grammar import Grammar, scaled
from pipeline.errors import FocalfaceError, ModelError
from pipeline.faces.alignment import CROP_SIZE
from pipeline.records import Answer, Request
from pipeline.vocabulary import CUSTOM_BOX, EMOTION_WORDS, EMOTIONS, REGION, UNIT, WHOLE_FACE, region_aus

T = TypeVar("T")
Key = TypeVar("Key")

CONCURRENCY = 16
"""Requests sent at the same time; more keeps a server busier that batches them, and meets the limits of a hosted one sooner."""

TRIES = 3
"""Times that a question is asked if the reply is not the JSON that was asked for."""

MIN_MASS = 0.9
"""Share of the probability at a value that must be on known values; below it the value has no score. Servers list only some tokens."""

_LOGPROBS = (20, 5, 0)
"""Alternatives of each token to ask for, as servers limit them; 0 asks for no log-probabilities."""

_FORMS = tuple((logprobs, schema) for schema in (True, False) for logprobs in _LOGPROBS)
"""What to ask a server for beside the text: alternatives of each token, and a reply that keeps to a JSON schema. The first form that a
server does not refuse is used."""

_INSTRUCTION = (
    "You are a FACS coder. The picture shows one face, aligned and cropped. You look at one box of it, given as x0 y0 x1 y1 in pixels of "
    "the picture. Action units are judged inside the box alone; emotion and apparent age are those of the face."
)


def open_describer(model: str, *, endpoint: str | None, batch_size: int = 32, adapter: str | None = None, **_: Any) -> OpenAIDescriber:
    """Describe with a model of a server.

    Args:
        model: name of the model there.
        endpoint: base address, such as `http://localhost:8000/v1`. The key is taken from the environment variable OPENAI_API_KEY.
        batch_size: regions whose requests are sent together.
        adapter: refused: adapters are for local checkpoints.

    Raises:
        ModelError: when the server does not answer, refuses the key, or has no such model.
    """
    if not endpoint:
        raise ModelError("the backend openai needs an endpoint: the address of an OpenAI-compatible server")
    if adapter is not None:
        raise ModelError("an adapter is for a local checkpoint: the backend openai takes none")
    try:
        models = list_models(endpoint)
    except FocalfaceError as error:
        raise ModelError(str(error)) from error
    if model not in models:
        named = ", ".join(models[:10]) + (" ..." if len(models) > 10 else "")
        raise ModelError(f"the endpoint at {endpoint} has no model {model!r}; name one with --model: {named or 'it lists none'}")
    return OpenAIDescriber(Connection(Endpoint(endpoint, model), CONCURRENCY), batch_size)


class OpenAIDescriber(BaseDescriber):
    """The describer over an OpenAI-compatible endpoint."""

    def __init__(self, connection: Connection, batch_size: int = 32, side: int = Grammar().face_size) -> None:
        """Describe with an endpoint.

        Args:
            connection: to the server and its model.
            batch_size: regions whose requests are sent together.
            side: width of the square picture that the model is shown, in pixels.
        """
        super().__init__(connection.endpoint.model, Grammar(face_size=side, earlier_turns="sentence"), batch_size)
        self._connection, self._side = connection, side
        self._form = 0  # index into _FORMS
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(CONCURRENCY)

    def _read(self, prompts: list[Prompt], then_write: bool) -> list[Fields]:
        return list(self._pool.map(self._read_one, prompts))

    def _write(self, prompts: list[Prompt], answers: Sequence[Answer]) -> list[str]:
        return list(self._pool.map(self._write_one, prompts, answers))

    def _read_one(self, prompt: Prompt) -> Fields:
        request = prompt.request
        units = [au for au in region_aus(request.region, request.box) if au in self.aus]
        content = [self._picture(request), {"type": "text", "text": self._fields_text(request, units)}]
        body = {"messages": [{"role": "system", "content": _INSTRUCTION}, {"role": "user", "content": content}]}
        return self._ask(body, _schema(units), lambda choice: parse_fields(choice, units))

    def _write_one(self, prompt: Prompt, answer: Answer) -> str:
        turns = [*prompt.earlier, (prompt.request, answer)]
        messages: list[dict[str, Any]] = [{"role": "system", "content": _INSTRUCTION}]
        for number, (request, said) in enumerate(turns):
            content: list[dict[str, Any]] = [{"type": "text", "text": self._sentence_text(request, said)}]
            messages.append({"role": "user", "content": [self._picture(request), *content] if number == 0 else content})
            if number < len(prompt.earlier):
                messages.append({"role": "assistant", "content": said.description})
        return self._ask({"messages": messages}, None, _text)

    def _ask(self, body: Mapping[str, Any], schema: dict[str, Any] | None, parse: Callable[[dict[str, Any]], T]) -> T:
        """Send a question until the reply can be parsed.

        Raises:
            ModelError: when the server cannot be asked, refuses, or keeps replying with something else.
        """
        reason = ""
        for _ in range(TRIES):
            reply = self._send({"model": self.name, "temperature": 0, **body}, schema)
            try:
                return parse(reply["choices"][0])
            except (KeyError, IndexError, TypeError, ValueError) as error:
                reason = f"{type(error).__name__}: {error}" if isinstance(error, KeyError | TypeError | IndexError) else str(error)
        raise ModelError(f"the model {self.name} at {self._connection.endpoint.url} does not answer as it is asked to ({reason[:200]})")

    def _send(self, body: dict[str, Any], schema: dict[str, Any] | None) -> dict[str, Any]:
        """Send a request; one with a schema in the first form that the server takes."""
        for number in range(self._form if schema else len(_FORMS) - 1, len(_FORMS)):
            logprobs, structured = _FORMS[number]
            more: dict[str, Any] = {"logprobs": True, "top_logprobs": logprobs} if logprobs else {}
            if structured:
                more["response_format"] = {"type": "json_schema", "json_schema": {"name": "fields", "strict": True, "schema": schema}}
            try:
                reply = self._connection.send("POST", "/chat/completions", body | more)
            except RefusedError as error:
                if number == len(_FORMS) - 1:
                    raise ModelError(str(error)) from error
                continue
            except FocalfaceError as error:
                raise ModelError(str(error)) from error
            if schema:
                with self._lock:
                    self._form = max(self._form, number)
            return reply
        raise AssertionError("the last form returns or raises")

    def _picture(self, request: Request) -> dict[str, Any]:
        _, data = cv2.imencode(".png", cv2.cvtColor(resized(request.crop, self._side), cv2.COLOR_RGB2BGR))
        return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(data.tobytes()).decode()}"}}

    def _where(self, request: Request) -> str:
        x0, y0, x1, y1 = (round(value) for value in scaled(request.box, self._side / CROP_SIZE))
        name = "" if request.region == CUSTOM_BOX else f" ({REGION[request.region].words})"
        return f"Box: {x0} {y0} {x1} {y1}{name}, in a picture of {self._side}x{self._side} pixels."

    def _fields_text(self, request: Request, units: Sequence[str]) -> str:
        listed = "\n".join(f"- {au}: {UNIT[au].name} ({UNIT[au].clauses[0]})" for au in units)
        asked = f"for each of these action units true if it is active in the box, else false:\n{listed}\n" if units else "\n"
        return (
            f"{self._where(request)}\nReply with one JSON object and nothing else: {asked}"
            f'"emotion": one of {", ".join(EMOTIONS)}; "age": the apparent age in years, a whole number from 0 to {YEARS - 1}.'
        )

    def _sentence_text(self, request: Request, answer: Answer) -> str:
        facts = {"aus": list(answer.aus), "emotion": answer.emotion, "age": round(answer.age)}
        phrases = "".join(f"- {au}: {' | '.join(UNIT[au].clauses)}\n" for au in answer.aus)
        movement = (
            f"Say each action unit with one of its phrases, word for word:\n{phrases}" if phrases else "Say that the region is at rest.\n"
        )
        order = "" if request.region == WHOLE_FACE else "Speak of the region first, and of the face after it. "
        emotion = " or ".join(EMOTION_WORDS[answer.emotion])
        return (
            f"{self._where(request)}\nFacts: {json.dumps(facts)}\n"
            f"Write one English sentence that says these facts and no others. {order}{movement}"
            f"Name the emotion of the face ({emotion}) and the apparent age ({facts['age']}). Reply with the sentence alone."
        )


def _schema(units: Sequence[str]) -> dict[str, Any]:
    """JSON schema of the fields of a box that can show these action units."""
    properties: dict[str, Any] = {au: {"type": "boolean"} for au in units}
    properties |= {"emotion": {"type": "string", "enum": list(EMOTIONS)}, "age": {"type": "integer", "minimum": 0, "maximum": YEARS - 1}}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _text(choice: Mapping[str, Any]) -> str:
    """The text of a reply."""
    text = choice["message"]["content"]
    if not isinstance(text, str) or not text.strip():
        raise ValueError("the reply has no text")
    return text.strip().strip('"')


_VALUES = {True: ("true", "yes", "1"), False: ("false", "no", "0")}


def parse_fields(choice: Mapping[str, Any], units: Sequence[str]) -> Fields:
    """The fields in one choice of a chat completion.

    Args:
        choice: with `message`, and with `logprobs` where the server gives them.
        units: the action units that were asked for.

    Raises:
        ValueError: when a field is missing or has no allowed value.

    >>> reply = {"message": {"content": '{"AU12": true, "emotion": "happiness", "age": 31}'}}
    >>> parse_fields(reply, ["AU12"]).aus
    ('AU12',)
    """
    text = choice["message"]["content"]
    if not isinstance(text, str):
        raise ValueError("the reply has no text")
    first, last = text.find("{"), text.rfind("}")
    try:
        values = json.loads(text[first : last + 1])
    except ValueError:
        raise ValueError(f"not a JSON object: {text[:80]!r}") from None
    tokens = _Tokens((choice.get("logprobs") or {}).get("content") or [], text[first : last + 1])
    scores, stated = {}, []
    for au in units:
        active = next((key for key, words in _VALUES.items() if str(values.get(au)).lower() in words), None)
        if active is None:
            raise ValueError(f"{au} is {values.get(au)!r}, neither true nor false")
        shares = tokens.shares(au, {word: key for key, words in _VALUES.items() for word in words})
        if shares is not None:
            scores[au] = shares.get(True, 0.0)
        elif active:
            stated.append(au)
    emotion, age = str(values.get("emotion")).lower(), values.get("age")
    if emotion not in EMOTIONS:
        raise ValueError(f"emotion is {values.get('emotion')!r}")
    if isinstance(age, bool) or not isinstance(age, int | float) or not 0 <= age <= 130:
        raise ValueError(f"age is {age!r}")
    named = tokens.shares("emotion", {name: name for name in EMOTIONS})
    years = tokens.number_shares("age") if age >= 10 else None  # where "31" is one token, so is every other age; of "3" one cannot tell
    return Fields(
        scores,
        None if named is None else np.array([named.get(name, 0.0) for name in EMOTIONS]),
        None if years is None else np.array([years.get(year, 0.0) for year in range(YEARS)]),
        tuple(stated),
        emotion,
        float(min(age, YEARS - 1)),
    )


class _Tokens:
    """The tokens of a JSON text with the probabilities of their alternatives."""

    def __init__(self, tokens: Sequence[Mapping[str, Any]], text: str) -> None:
        """Align tokens with a text.

        Args:
            tokens: `logprobs.content` of a chat completion; empty where the server gives none.
            text: the JSON object, a part of what the tokens spell.
        """
        self._tokens, self._text = tokens, text
        spelled = "".join(str(token["token"]) for token in tokens)
        self._offset = spelled.find(text)
        self._starts = np.cumsum([0, *(len(str(token["token"])) for token in tokens)])

    def shares(self, key: str, words: Mapping[str, Any]) -> dict[Any, float] | None:
        """Probabilities of the values of a field, from the token that its value begins with.

        Args:
            key: the field.
            words: how values are written, and what they mean.

        Returns:
            Meaning to probability, summing to 1; None where the server gives no probabilities, or too little of it is on these words.
        """
        masses: dict[Any, float] = {}
        for begun, mass, _ in self._alternatives(key):
            found = {meaning for word, meaning in words.items() if begun and (word.startswith(begun) or begun.startswith(word))}
            if len(found) == 1:
                (meaning,) = found
                masses[meaning] = masses.get(meaning, 0.0) + mass
        return _normalised(masses)

    def number_shares(self, key: str) -> dict[int, float] | None:
        """Probabilities of the values of a field of whole numbers, if its tokens are whole numbers; else None."""
        masses: dict[int, float] = {}
        for begun, mass, chosen in self._alternatives(key):
            digits = re.match(r"\d+", begun)
            if chosen and (digits is None or digits[0] != self._value(key)):
                return None  # the number takes several tokens
            if digits is not None:
                masses[int(digits[0])] = masses.get(int(digits[0]), 0.0) + mass
        return _normalised(masses)

    def _value(self, key: str) -> str:
        found = re.search(rf'"{key}"\s*:\s*"?([\w.]*)', self._text)
        return found[1] if found else ""

    def _alternatives(self, key: str) -> list[tuple[str, float, bool]]:
        """What the value of a field could begin with: (text, probability, whether it is what the model wrote)."""
        found = re.search(rf'"{key}"\s*:\s*"?', self._text)
        if self._offset < 0 or found is None or not self._tokens:
            return []
        place = self._offset + found.end()
        index = int(np.searchsorted(self._starts, place, side="right")) - 1
        if index >= len(self._tokens):
            return []
        token = self._tokens[index]
        lead = str(token["token"])[: place - int(self._starts[index])]
        listed = {str(one["token"]): float(one["logprob"]) for one in token.get("top_logprobs") or ()}
        if len(listed) < 2:
            return []  # without alternatives there is no distribution
        listed |= {str(token["token"]): float(token["logprob"])}

        def value(text: str) -> str:
            return (text[len(lead) :] if text.startswith(lead) else text.lstrip(' \n\t":')).lower()

        return [(value(text), exp(min(logprob, 0.0)), text == str(token["token"])) for text, logprob in listed.items()]


def _normalised(masses: dict[Key, float]) -> dict[Key, float] | None:
    total = sum(masses.values())
    return {key: mass / total for key, mass in masses.items()} if total >= MIN_MASS else None
