"""A judge of descriptions: a vision-language model behind an OpenAI-compatible endpoint marks them by a rubric.

Absolute: every description gets 1 to 5 on each criterion. Pairwise: the better of two descriptions, asked in both orders, since judges
prefer a position (Zheng et al. 2023, "Judging LLM-as-a-Judge"); if the two orders disagree, it is a tie. Every reply is stored in a file
when it arrives, so that a killed run resumes and a second run makes no call.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import ValidationError
from sklearn.metrics import cohen_kappa_score

from pipeline.describe.endpoint import Connection, Endpoint, RefusedError
from pipeline.errors import FocalfaceError
from pipeline.evaluation.judge.prompts import AGAIN, CRITERIA, SYSTEM, JudgeItem, Marks, Reply, Verdict, ask_marks, ask_verdict, picture

CONCURRENCY = 8
"""Questions sent at the same time; more is faster until the server refuses some."""

SAMPLING: Mapping[str, Any] = {"temperature": 0.0, "max_tokens": 1024}
"""Fields sent with every question. A temperature above 0 makes repeated runs differ; too few tokens cut replies short."""

_R = TypeVar("_R", bound=Reply)
_COUNTED = ("calls", "kept", "asked_again", "unparsable", "refused")


@dataclass(frozen=True)
class Absolute:
    """Marks of N descriptions.

    Attributes:
        scores: (N, 6) float64, 1 to 5 by criterion (`CRITERIA`); NaN where not judged.
        reasons: the judge's reason for each; empty where not judged.
        counts: `calls` to the server, replies found in the file (`kept`), questions `asked_again`, replies still `unparsable`, `refused`.
        refusal: the server's message on the first refused question.
    """

    scores: np.ndarray
    reasons: tuple[str, ...]
    counts: dict[str, int]
    refusal: str = ""

    def figures(self) -> dict[str, Any]:
        """Means by criterion and over all, and the number judged; None where nothing was judged."""
        marks = self.scores[~np.isnan(self.scores).any(1)]
        means = {name: float(marks[:, i].mean()) if len(marks) else None for i, name in enumerate(CRITERIA)}
        return {**means, "overall": float(marks.mean()) if len(marks) else None, "judged": len(marks), **self.counts}


@dataclass(frozen=True)
class Pairwise:
    """Verdicts on N pairs of descriptions.

    Attributes:
        verdicts: (N, 2) float64: 1 the first description is better, -1 the second, 0 a tie, NaN not judged. Column 0: the first was shown
            first; column 1: the second was.
        counts, refusal: as in `Absolute`.
    """

    verdicts: np.ndarray
    counts: dict[str, int]
    refusal: str = ""

    @property
    def outcome(self) -> np.ndarray:
        """(N,) 1, -1 or 0: the verdict of both orders, 0 where they differ; NaN where one was not judged."""
        first, second = self.verdicts.T
        return np.where(np.isnan(first + second), np.nan, np.where(first == second, first, 0.0))

    def figures(self) -> dict[str, Any]:
        """How often the first description won, and how reliable that is.

        `win_rate`: share of wins among the pairs judged, a tie counting half. `order_agreement`: share of pairs on which both orders
        agree; `order_kappa`: the same beyond chance (Cohen). `shown_first`: share of the verdicts for one side that are for the text shown
        first; 0.5 is fair, 1 or 0 is a judge that looks at the position alone.
        """
        judged = ~np.isnan(self.outcome)
        first, second = self.verdicts[judged].T
        wins, losses, ties = ((self.outcome == value).sum() for value in (1, -1, 0))
        shown = np.concatenate([self.verdicts[:, 0], -self.verdicts[:, 1]])
        sided = shown[np.abs(shown) == 1]
        count = int(judged.sum())
        return {
            "wins": int(wins),
            "losses": int(losses),
            "ties": int(ties),
            "win_rate": float(wins + ties / 2) / count if count else None,
            "order_agreement": float((first == second).mean()) if count else None,
            "order_kappa": _kappa(first, second, (-1, 0, 1)),
            "shown_first": float((sided == 1).mean()) if len(sided) else None,
            "judged": count,
            **self.counts,
        }


def agreement(runs: Sequence[Absolute] | Sequence[Pairwise]) -> dict[str, float | None]:
    """Agreement beyond chance of repeated runs or several judges: Cohen's kappa, averaged over their pairs (Light 1971).

    A disagreement of marks is weighed by its square (Cohen 1968); only items that both judged count.

    Returns:
        Kappa by criterion, or of the `outcome`; None if no two runs judged the same item.
    """

    def mean(columns: Sequence[np.ndarray], labels: Sequence[int], weights: str | None) -> float | None:
        found = [_kappa(a, b, labels, weights) for a, b in itertools.combinations(columns, 2)]
        known = [value for value in found if value is not None]
        return float(np.mean(known)) if known else None

    marks = [run for run in runs if isinstance(run, Absolute)]
    if marks:
        return {name: mean([run.scores[:, i] for run in marks], (1, 2, 3, 4, 5), "quadratic") for i, name in enumerate(CRITERIA)}
    return {"outcome": mean([run.outcome for run in runs if isinstance(run, Pairwise)], (-1, 0, 1), None)}


def _kappa(a: np.ndarray, b: np.ndarray, labels: Sequence[int], weights: str | None = None) -> float | None:
    both = ~(np.isnan(a) | np.isnan(b))
    if not both.any():
        return None
    if np.array_equal(a[both], b[both]):
        return 1.0  # if all progress one thing, chance agrees as well and kappa is 0/0
    return float(cohen_kappa_score(a[both].astype(int), b[both].astype(int), labels=list(labels), weights=weights))


class Judge:
    """Asks an endpoint and stores its replies.

    >>> with Judge(Endpoint("http://localhost:8000/v1", "Qwen2.5-VL-7B"), Path("judge.sqlite")) as judge:  # doctest: +SKIP
    ...     judge.absolute(items, answers).figures()["overall"]

    Args:
        cache: file for the replies, created if it does not exist; several judges may share it.
        concurrency: questions sent at the same time.
        sampling: fields sent with every question.
        schema: send the JSON schema of the reply, which servers that support it obey; False for a server that refuses it.

    Raises:
        FocalfaceError: the file is of another kind; and from `absolute` and `pairwise`: the server cannot be asked.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        cache: Path,
        concurrency: int = CONCURRENCY,
        sampling: Mapping[str, Any] = SAMPLING,
        schema: bool = True,
    ) -> None:
        self.endpoint, self.concurrency, self.sampling, self.schema = endpoint, concurrency, dict(sampling), schema
        self._connection, self._lock = Connection(endpoint, concurrency), threading.Lock()
        self._counts: Counter[str] = Counter()
        self._refusal = ""
        try:
            self._kept = sqlite3.connect(cache, check_same_thread=False, isolation_level=None, timeout=60)
            self._kept.execute("pragma journal_mode=wal")
            self._kept.execute("create table if not exists replies (key text primary key, model text not null, reply text not null)")
        except sqlite3.Error as error:
            raise FocalfaceError(f"{cache} cannot store a judge's replies ({error}); name another file") from error

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._kept.close()

    def absolute(
        self,
        items: Sequence[JudgeItem],
        answers: Sequence[str],
        run: int = 0,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Absolute:
        """Mark descriptions by the rubric.

        Args:
            items, answers: N each.
            run: number of a repeated run, sent as the seed; `agreement` compares runs.
            progress: called with the number judged and the number in all.
        """
        asked = [ask_marks(item, answer) for item, answer in zip(items, answers, strict=True)]
        replies, counts = self._ask(Marks, items, asked, run, progress)
        scores = [[getattr(reply, name) if reply else np.nan for name in CRITERIA] for reply in replies]
        reasons = tuple(reply.reason if reply else "" for reply in replies)
        return Absolute(np.array(scores, np.float64).reshape(len(items), len(CRITERIA)), reasons, counts, self._refusal)

    def pairwise(
        self,
        items: Sequence[JudgeItem],
        first: Sequence[str],
        second: Sequence[str],
        run: int = 0,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Pairwise:
        """Compare two descriptions of each item, shown in both orders.

        Args:
            items, first, second: N each.
            run, progress: as in `absolute`; there are 2 N questions.
        """
        asked = [
            ask_verdict(item, *shown)
            for item, one, other in zip(items, first, second, strict=True)
            for shown in ((one, other), (other, one))
        ]
        replies, counts = self._ask(Verdict, [item for item in items for _ in range(2)], asked, run, progress)
        value = {"A": 1.0, "B": -1.0, "tie": 0.0}
        verdicts = np.array([value[reply.better] if reply else np.nan for reply in replies]).reshape(len(items), 2)
        return Pairwise(verdicts * [1, -1], counts, self._refusal)

    def _ask(
        self, kind: type[_R], items: Sequence[JudgeItem], asked: Sequence[str], run: int, progress: Callable[[int, int], None]
    ) -> tuple[list[_R | None], dict[str, int]]:
        """The reply to every question, in order; None where it was refused or could not be parsed."""
        self._counts.clear()
        self._refusal = ""
        with ThreadPoolExecutor(self.concurrency) as workers:
            futures = [workers.submit(self._settle, kind, item, text, run) for item, text in zip(items, asked, strict=True)]
            try:
                for done, future in enumerate(as_completed(futures), 1):
                    future.result()
                    progress(done, len(futures))
            except BaseException:
                workers.shutdown(wait=False, cancel_futures=True)
                raise
        if asked and self._counts["refused"] == len(asked):
            raise FocalfaceError(f"every question to the judge was refused: {self._refusal}")
        return [future.result() for future in futures], {name: self._counts[name] for name in _COUNTED}

    def _settle(self, kind: type[_R], item: JudgeItem, text: str, run: int) -> _R | None:
        """Ask one question, and once more if the reply is not the object wanted."""
        content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": picture(item)}}]
        messages: list[dict[str, Any]] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]
        body = {"model": self.endpoint.model, "seed": run, **self.sampling, "messages": messages}
        if self.schema:
            schema = {"name": kind.__name__.lower(), "strict": True, "schema": kind.model_json_schema()}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        for again in (False, True):
            self._count("asked_again", again)
            try:
                reply = self._reply(body)
            except RefusedError as error:
                self._refusal = self._refusal or str(error)
                self._count("refused")
                return None
            try:
                return kind.model_validate_json(reply[reply.find("{") : reply.rfind("}") + 1])
            except ValidationError:
                messages += [{"role": "assistant", "content": reply or "(nothing)"}, {"role": "user", "content": AGAIN}]
        self._count("unparsable")
        return None

    def _reply(self, body: Mapping[str, Any]) -> str:
        """The model's reply, from the file if the same question was asked before."""
        key = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        kept = self._look_up(key)
        if kept is not None:
            self._count("kept")
            return kept
        found = self._connection.send("POST", "/chat/completions", body)
        try:
            reply = str(found["choices"][0]["message"]["content"] or "").encode(errors="replace").decode()
        except (KeyError, IndexError, TypeError) as error:
            raise RefusedError(f"{self.endpoint.url} answers without a message, which an OpenAI-compatible endpoint has") from error
        self._count("calls")
        with self._lock:
            self._kept.execute("insert or ignore into replies values (?, ?, ?)", [key, self.endpoint.model, reply])
        return self._look_up(key) or reply  # of two equal questions asked at once, both take the first reply

    def _look_up(self, key: str) -> str | None:
        with self._lock:
            row = self._kept.execute("select reply from replies where key = ?", [key]).fetchone()
        return None if row is None else str(row[0])

    def _count(self, name: str, by: int = 1) -> None:
        with self._lock:
            self._counts[name] += by
