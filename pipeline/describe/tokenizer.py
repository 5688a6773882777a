"""The tokenizer of a checkpoint, without importing transformers where its `tokenizer.json` is enough."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

FILE = "tokenizer.json"
CONFIG = "tokenizer_config.json"


class TextTokenizer(Protocol):
    """What the project needs of a tokenizer; `transformers.PreTrainedTokenizerBase` has it, too."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text."""

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """Text of token ids."""


class FastTokenizer:
    """A `tokenizer.json` read by the tokenizers library.

    Args:
        file: path of the file.
    """

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(file))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text."""
        return list(self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """Text of token ids."""
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=skip_special_tokens))


def load_tokenizer(folder: Path) -> TextTokenizer:
    """Load the tokenizer of a checkpoint folder.

    transformers loads it where the folder has no `tokenizer.json`, or asks for clean-up that only transformers does.
    """
    config = json.loads((folder / CONFIG).read_text()) if (folder / CONFIG).is_file() else {}
    if (folder / FILE).is_file() and not config.get("clean_up_tokenization_spaces"):
        return FastTokenizer(folder / FILE)
    from transformers import AutoTokenizer

    tokenizer: TextTokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return tokenizer
