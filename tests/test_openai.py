"""The OpenAI backend against a server on loopback whose answers are nano's, and against servers that give less or misbehave."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from math import log
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.cli import main
from pipeline.describe import endpoint as client
from pipeline.describe.backends import Describer, load_describer
from pipeline.describe.backends.openai import parse_fields
from pipeline.describe.claims import claims
from pipeline.describe.describer import plain
from pipeline.describe.fields import Fields, decide
from pipeline.describe.sentences import compose
from pipeline.errors import ModelError, SettingsError
from pipeline.execution.executors.in_process import InProcessExecutor
from pipeline.execution.run import run
from pipeline.records import Answer, Request
from pipeline.settings import load_settings
from pipeline.vocabulary import AUS, EMOTIONS, region_aus
from tests.support.servers import ChatServer, Reply

KEY = "sk-quite-secret"
ASKED = {"face": (5, 5, 107, 107), "mouth": (36, 68, 76, 92), "chin": (38, 86, 74, 108), "nose": (40, 37, 72, 72), "box": (0, 0, 9, 9)}


@pytest.fixture(scope="module")
def nano() -> Describer:
    return load_describer("nano", device="cpu")


@pytest.fixture(scope="module")
def requests_(samples: Path) -> list[Request]:
    """Boxes on whole pixels of two pictures: the server gets them as whole numbers."""
    faces = [Image.open(samples / name).convert("RGB").resize((112, 112)) for name in ("single_face.jpg", "multi_face.jpg")]
    return [Request(np.asarray(face), box, region) for face in faces for region, box in ASKED.items()]


class NanoBehind:
    """The rule of a server: nano's fields with the log-probabilities of its tokens, sentences that say the facts that it is given.

    Attributes:
        gives: how many alternatives of a token it lists, as the protocol allows; 0 lists none whatever it is asked for.
    """

    def __init__(self, nano: Describer, gives: int = 20) -> None:
        self.nano, self.gives = nano, gives

    def __call__(self, body: dict[str, Any]) -> Reply:
        text = body["messages"][-1]["content"][-1]["text"]
        if facts := re.search(r"^Facts: (.*)$", text, re.M):
            return self.sentence(json.loads(facts[1]), text)
        picture = next(part for message in body["messages"][1:] for part in message["content"] if part["type"] == "image_url")
        data = picture["image_url"]["url"].removeprefix("data:image/png;base64,")
        image = np.asarray(Image.open(BytesIO(base64.b64decode(data))))
        assert image.shape == (336, 336, 3)
        found = re.search(r"^Box: (\d+) (\d+) (\d+) (\d+)", text)
        assert found is not None
        x0, y0, x1, y1 = (int(number) / 3 for number in found.groups())
        # Cubic enlargement by three keeps the middle pixel of every nine.
        (read,) = self.nano.read([Request(np.ascontiguousarray(image[1::3, 1::3]), (x0, y0, x1, y1), "face")])
        return self.fields(read, re.findall(r"^- (AU\d\d):", text, re.M), min(self.gives, body.get("top_logprobs", 0)))

    def sentence(self, facts: dict[str, Any], text: str) -> Reply:
        region = "face" if "(the face)" in text else "box"
        return compose(facts["aus"], facts["emotion"], facts["age"], Random(1), region=region)

    def fields(self, read: Answer, units: list[str], alternatives: int) -> Reply:
        """The fields as JSON, a token for each value."""
        values: list[tuple[str, dict[str, float]]] = []
        for au in units:
            score = read.au_scores.get(au, 1e-9)
            values.append((f'"{au}":', {" true": score, " false": 1 - score}))
        values.append(('"emotion": "', read.emotion_scores))
        values.append(('", "age":', {f" {round(read.age)}": 1.0}))
        tokens: list[dict[str, Any]] = [{"token": "{", "logprob": 0.0, "top_logprobs": []}]
        for number, (lead, shares) in enumerate(values):
            comma = ", " if 0 < number < len(values) - 1 else ""
            tokens.append({"token": comma + lead, "logprob": 0.0, "top_logprobs": []})
            ranked = sorted(shares.items(), key=lambda item: -item[1])
            listed = [{"token": token, "logprob": log(max(share, 1e-30))} for token, share in ranked[:alternatives]]
            tokens.append({"token": ranked[0][0], "logprob": log(ranked[0][1]), "top_logprobs": listed})
        tokens.append({"token": "}", "logprob": 0.0, "top_logprobs": []})
        text = "".join(token["token"] for token in tokens)
        return {"message": {"role": "assistant", "content": text}} | ({"logprobs": {"content": tokens}} if alternatives else {})


Serve = Callable[..., ChatServer]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    running: list[Any] = []

    def start(rule: Callable[[dict[str, Any]], Reply], models: tuple[str, ...] = ("nano",)) -> ChatServer:
        server = ChatServer(rule, models)
        context = server.serving()
        context.__enter__()
        running.append(context)
        return server

    yield start
    for context in running:
        context.__exit__(None, None, None)


def open_nano(server: ChatServer, **options: Any) -> Describer:
    return load_describer("nano", backend="openai", endpoint=server.url, **options)


def test_the_answers_are_those_of_the_model_behind_the_server(serve: Serve, nano: Describer, requests_: list[Request]) -> None:
    server = serve(NanoBehind(nano))
    theirs = open_nano(server)
    assert (theirs.name, theirs.aus, theirs.info.thresholds) == ("nano", AUS, dict.fromkeys(AUS, 0.5))
    for request, own, other in zip(requests_, nano.describe(requests_), theirs.describe(requests_), strict=True):
        can_show = region_aus(request.region, request.box)
        assert set(other.au_scores) == set(can_show)
        assert {au: other.au_scores[au] for au in own.au_scores} == pytest.approx(own.au_scores, abs=1e-5)
        assert other.emotion_scores == pytest.approx(own.emotion_scores, abs=1e-5)
        assert (other.emotion, other.age) == (own.emotion, round(own.age))
        scores = np.array([own.emotion_scores[name] for name in EMOTIONS])
        fields = Fields(own.au_scores, scores, np.eye(101)[round(own.age)])
        assert other.aus == decide(fields, request, theirs.info.thresholds).aus
        said = claims(other.description)
        assert (said.aus, said.emotions, said.ages) == (set(other.aus), {other.emotion}, {round(other.age)})
    assert all(body["model"] == "nano" for body in server.bodies)


def test_a_conversation_sends_the_turns_before(serve: Serve, nano: Describer, requests_: list[Request]) -> None:
    server = serve(NanoBehind(nano))
    theirs = open_nano(server)
    turns = theirs.converse(requests_[:3])
    for one, other in zip(turns, theirs.describe(requests_[:3]), strict=True):
        assert one.au_scores == pytest.approx(other.au_scores) and one.aus == other.aus
    (last,) = [body for body in server.bodies if len(body["messages"]) == 6]
    assert [message["role"] for message in last["messages"]] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert [message["content"] for message in last["messages"] if message["role"] == "assistant"] == [
        turns[0].description,
        turns[1].description,
    ]


def test_no_probabilities_no_scores(serve: Serve, nano: Describer, requests_: list[Request]) -> None:
    theirs = open_nano(serve(NanoBehind(nano, gives=0)))
    for own, other in zip(nano.describe(requests_), theirs.describe(requests_), strict=True):
        assert (other.au_scores, other.emotion_scores, other.age_low, other.age_high) == ({}, {}, None, None)
        assert (other.emotion, other.age) == (own.emotion, round(own.age))
        assert set(other.aus) <= {au for au, score in own.au_scores.items() if score >= 0.5}
        assert claims(other.description).aus == set(other.aus)


def test_of_two_stated_units_that_exclude_each_other_neither_stands() -> None:
    reply = {"message": {"content": '{"AU12": true, "AU24": true, "AU25": true, "emotion": "anger", "age": 30}'}}
    fields = parse_fields(reply, ["AU12", "AU24", "AU25"])
    answer = decide(fields, Request(np.zeros((112, 112, 3), np.uint8), (36, 70, 76, 93), "mouth"), dict.fromkeys(AUS, 0.5))
    assert answer.aus == ("AU12",)


@pytest.mark.parametrize("refused", ["top_logprobs", "logprobs", "response_format", "both"])
def test_what_a_server_refuses_is_left_out(serve: Serve, nano: Describer, requests_: list[Request], refused: str) -> None:
    nano_behind = NanoBehind(nano)

    def rule(body: dict[str, Any]) -> Reply:
        most = body.get("top_logprobs", 0) > 5 if refused == "top_logprobs" else refused in body
        if most or (refused == "both" and ("logprobs" in body or "response_format" in body)):
            return 400, {}, json.dumps({"error": {"message": f"{refused} is not supported"}})
        return nano_behind(body)

    server = serve(rule)
    theirs = open_nano(server, sentences="plain")
    first = theirs.describe(requests_[:1])
    assert bool(first[0].au_scores) == (refused in ("top_logprobs", "response_format"))
    asked = len(server.bodies)
    assert theirs.describe(requests_[:1]) == first
    assert len(server.bodies) == asked + 1, "what was refused once is not asked for again"
    assert first[0].description == plain(first[0], requests_[0], AUS)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([("{", {}), ('"AU12": ', {}), ("true", {"true": 0.7, "false": 0.3}), ("}", {})], 0.7),
        ([("{", {}), ('"AU12":', {}), (" true", {" true": 0.6, "true": 0.1, " false": 0.3}), ("}", {})], 0.7),
        ([('{"AU12', {}), ('":true', {'":true': 0.7, '":false': 0.3}), ("}", {})], 0.7),
        ([("{", {}), ('"AU12": ', {}), ("tr", {"tr": 0.7, "f": 0.3}), ("ue}", {})], 0.7),
        ([("{", {}), ('"AU12": "', {}), ("yes", {"yes": 0.7, "no": 0.3}), ('"}', {})], 0.7),
        ([("{", {}), ('"AU12": ', {}), ("true", {"true": 0.7, "maybe": 0.3}), ("}", {})], None),
        ([("{", {}), ('"AU12": ', {}), ("true", {"true": 0.97}), ("}", {})], None),
        ([("Here: {", {}), ('"AU12": ', {}), ("true", {"true": 0.7, "false": 0.3}), ("}", {})], 0.7),
    ],
)
def test_probabilities_are_read_however_a_tokenizer_splits(tokens: list[tuple[str, dict[str, float]]], expected: float | None) -> None:
    tail = [
        (', "emotion": "', {}),
        ("s", {"s": 0.95, "h": 0.05}),
        ('ad"', {}),
        ("ness", {}),
        ('", "age": ', {}),
        ("3", {"3": 0.6, "4": 0.4}),
        ("1}", {}),
    ]
    tail[2] = ("ad", {})
    spelled = [
        *tokens[:-1],
        *([('"', {})] if tokens[-1][0].startswith('"') else []),
        *([("ue", {})] if tokens[-1][0] == "ue}" else []),
        *tail,
    ]
    content = "".join(text for text, _ in spelled)
    listed = [
        {
            "token": text,
            "logprob": log(shares.get(text, 1.0)),
            "top_logprobs": [{"token": other, "logprob": log(share)} for other, share in shares.items()],
        }
        for text, shares in spelled
    ]
    fields = parse_fields({"message": {"content": content}, "logprobs": {"content": listed}}, ["AU12"])
    assert (fields.emotion, fields.age) == ("sadness", 31)
    assert fields.emotion_scores is None, "s begins two emotions"
    assert fields.age_scores is None, "the age takes two tokens"
    if expected is None:
        assert not fields.au_scores and fields.aus == ("AU12",)
    else:
        assert fields.au_scores == {"AU12": pytest.approx(expected)}


def test_an_age_in_one_token_has_a_distribution() -> None:
    texts = [('{"emotion": "', {}), ("fear", {"fear": 1.0}), ('", "age": ', {}), ("31", {"31": 0.5, "29": 0.25, "40": 0.25}), ("}", {})]
    listed = [
        {"token": text, "logprob": 0.0, "top_logprobs": [{"token": other, "logprob": log(share)} for other, share in shares.items()]}
        for text, shares in texts
    ]
    listed[3]["logprob"] = log(0.5)
    fields = parse_fields({"message": {"content": "".join(text for text, _ in texts)}, "logprobs": {"content": listed}}, [])
    answer = decide(fields, Request(np.zeros((112, 112, 3), np.uint8), (0, 0, 5, 5), "box"), {})
    assert (answer.age_low, answer.age, answer.age_high) == (29, 31, 40)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ("The face looks happy.", "not a JSON object"),
        ('{"emotion": "happiness", "age": 31}', "AU01 is None"),
        ('{"AU01": "perhaps", "emotion": "happiness", "age": 31}', "AU01 is 'perhaps'"),
        (json.dumps({**dict.fromkeys(AUS, False), "emotion": "joy", "age": 31}), "emotion is 'joy'"),
        (json.dumps({**dict.fromkeys(AUS, False), "emotion": "anger", "age": "old"}), "age is 'old'"),
        ({"message": {"content": None, "refusal": "I cannot help with faces."}}, "the reply has no text"),
        ((200, {}, '{"choices": []}'), "IndexError"),
        ((200, {}, "hello"), "something else than a JSON object"),
        ((400, {}, '{"error": {"message": "context too long"}}'), "context too long"),
        ((401, {}, f"no such key: {KEY}"), "put its key into the environment variable OPENAI_API_KEY"),
        ((503, {"Retry-After": "0"}, "busy"), "answers 503: busy"),
    ],
)
def test_a_server_that_misbehaves_is_reported_in_one_line(
    serve: Serve, requests_: list[Request], monkeypatch: pytest.MonkeyPatch, reply: Reply, says: str
) -> None:
    monkeypatch.setattr(client, "RETRIES", 1)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = serve(lambda body: reply)
    with pytest.raises(ModelError, match=re.escape(says)) as caught:
        open_nano(server).describe(requests_[:1])
    assert "\n" not in str(caught.value) and KEY not in str(caught.value)
    assert set(server.keys) == {f"Bearer {KEY}"}


def test_a_busy_server_is_asked_again(serve: Serve, nano: Describer, requests_: list[Request]) -> None:
    nano_behind = NanoBehind(nano)
    replies: list[Reply] = [(503, {"Retry-After": "0"}, "busy"), (429, {"Retry-After": "0"}, "slower"), "not what was asked for"]
    server = serve(lambda body: replies.pop(0) if replies else nano_behind(body))
    (answer,) = open_nano(server, sentences="plain").describe(requests_[:1])
    assert answer.au_scores and len(server.bodies) == 4


def test_what_is_missing_is_said_before_any_work(serve: Serve, nano: Describer) -> None:
    server = serve(NanoBehind(nano), ("judge-7b", "qwen"))
    with pytest.raises(ModelError, match=r"has no model 'nano'; name one with --model: judge-7b, qwen"):
        open_nano(server)
    with pytest.raises(ModelError, match="does not answer"):
        load_describer("nano", backend="openai", endpoint="http://127.0.0.1:9/v1")
    for assignments, says in (
        (["describe.backend=openai"], "describe: the backend openai needs describe.endpoint"),
        (["describe.endpoint=http://localhost:8000/v1"], "describe: endpoint is for the backend openai"),
        (["describe.backend=openai", "describe.endpoint=localhost"], "describe.endpoint: must be an address"),
        (["describe.backend=openai", "describe.endpoint=http://me:key@host/v1"], "OPENAI_API_KEY"),
        (["describe.backend=openai", "describe.endpoint=http://host/v1", "describe.adapter=x"], "takes none"),
    ):
        with pytest.raises(SettingsError, match=re.escape(says)):
            load_settings(assignments=assignments)
    trimmed = load_settings(assignments=["describe.backend=openai", "describe.endpoint=http://host/v1/chat/completions"])
    assert trimmed.describe.endpoint == "http://host/v1"


@pytest.mark.parametrize("gives", [20, 0])
def test_a_picture_and_a_run_through_a_server(
    serve: Serve, nano: Describer, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], gives: int
) -> None:
    """Scores that the server does not give are null in the tables, and nothing on the way needs them."""
    server = serve(NanoBehind(nano, gives))
    words = [
        "describe",
        str(samples / "single_face.jpg"),
        "--backend",
        "openai",
        "--endpoint",
        server.url,
        "--save",
        str(tmp_path / "a.png"),
    ]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0, capsys.readouterr().err
    assert "emotion" in capsys.readouterr().out

    options = ["describe.backend=openai", f"describe.endpoint={server.url}", "video.fps=1", "select.window=5", "select.regions=face,mouth"]
    settings = load_settings(assignments=options)
    folder = run([str(samples / "single_face.mp4")], tmp_path / "run", settings, executor=InProcessExecutor(settings))
    rows = folder.read("descriptions").to_pylist()
    assert rows and folder.info["thresholds"] == dict.fromkeys(AUS, 0.5) and folder.info["model"] == "nano"
    for row in rows:
        assert (row["AU12"] is None, row["emotion_fear"] is None, row["age_low"] is None) == (gives == 0, gives == 0, True)
        assert row["emotion"] in EMOTIONS and row["age"] > 0 and claims(row["description"]).aus == set(row["aus"])


def test_the_option_of_version_0_1_still_works(samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["describe", str(samples / "single_face.jpg"), "--engine=tensorrt"])
    assert ended.value.code == 2
    assert "describe.backend: must be auto, onnx, openai, transformers or vllm, not 'tensorrt'" in capsys.readouterr().err
    with pytest.warns(UserWarning, match=r"describe\.engine is now called describe\.backend"):
        assert load_settings(assignments=["describe.engine=vllm"]).describe.backend == "vllm"


def test_importing_the_backends_loads_no_torch() -> None:
    code = "import pipeline.describe.backends, pipeline.describe.backends.openai, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_truthful_answer_has_its_own_sentence(serve: Serve, nano: Describer, requests_: list[Request]) -> None:
    """And one that says something else gives way to the plain wording."""
    nano_behind = NanoBehind(nano)
    theirs = open_nano(serve(nano_behind))
    (kept,) = theirs.describe(requests_[:1])
    assert kept.own_sentence == kept.description and theirs.replaced == 0
    lying = open_nano(serve(lambda body: "A happy face." if "Facts:" in json.dumps(body) else nano_behind(body)))
    (answer,) = lying.describe(requests_[:1])
    assert answer == replace(kept, own_sentence="A happy face.", description=plain(kept, requests_[0], AUS))
    assert lying.replaced == 1
