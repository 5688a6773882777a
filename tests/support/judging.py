"""An OpenAI-compatible endpoint on loopback that judges by a stated rule, and faces and descriptions to show it."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from pipeline.evaluation.judge.prompts import CRITERIA, JudgeItem
from tests.support.servers import ChatServer


def by_words(body: dict[str, Any]) -> str:
    """Rule of the server: a description of n words gets n (1 to 5) for every criterion; of two, the longer one is better."""
    texts = [json.loads(found) for found in re.findall(r'^Description(?: [AB])?: (".*")$', body["messages"][1]["content"][0]["text"], re.M)]
    words = [len(text.split()) for text in texts]
    if len(words) == 1:
        return json.dumps({"reason": f"{words[0]} words", **dict.fromkeys(CRITERIA, min(5, max(1, words[0])))})
    return json.dumps({"reason": "length", "better": "tie" if words[0] == words[1] else "AB"[words[1] > words[0]]})


class Server(ChatServer):
    """An endpoint that judges `by_words`."""

    def __init__(self) -> None:
        super().__init__(by_words, ["judge-7b"])


def items(count: int) -> list[JudgeItem]:
    """Faces that differ, so that each question is its own."""
    return [
        JudgeItem(np.full((112, 112, 3), 10 + i, np.uint8), (30, 60, 82, 90), "mouth", ["AU12"], "happiness", 30 + i) for i in range(count)
    ]


def said(*counts: int) -> list[str]:
    """Descriptions of so many words."""
    return [" ".join(["word"] * count) for count in counts]
