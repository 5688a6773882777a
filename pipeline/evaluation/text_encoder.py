"""A transformer that encodes sentences, for the text metrics that compare meanings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ModelError

MODEL_TOKENS = 256
"""Tokens after which a sentence is cut; more takes memory."""

MODEL_BATCH = 64
"""Sentences in a batch; more takes memory."""


class Encoder:
    """A transformer from a folder; no remote code, no pickle."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        if not folder.is_dir():
            raise ModelError(f"there is no folder {folder}; a text model is a folder with safetensors weights and a tokenizer")
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            model: Any = AutoModel.from_pretrained(folder, local_files_only=True, trust_remote_code=False, use_safetensors=True)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ModelError(f"{folder} holds no text model that can be loaded: {str(error).strip().splitlines()[0]}") from error
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = model.eval().to(self.device)
        self.tokens = min(MODEL_TOKENS, getattr(model.config, "max_position_embeddings", MODEL_TOKENS + 2) - 2)

    def read(self, texts: Sequence[str], layer: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Encode texts.

        Args:
            texts: may repeat.
            layer: hidden layer, -1 for the last.

        Returns:
            For each text the (T, D) float32 hidden states of its T tokens, and (T,) bool, True for words and False for special tokens.
        """
        import torch

        found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        unique = sorted(set(texts), key=lambda text: (len(text), text))  # similar lengths together need little padding
        for start in range(0, len(unique), MODEL_BATCH):
            batch = unique[start : start + MODEL_BATCH]
            tokens = self.tokenizer(
                batch, padding=True, truncation=True, max_length=self.tokens, return_tensors="pt", return_special_tokens_mask=True
            )
            marks = tokens.pop("special_tokens_mask").numpy().astype(bool)
            with torch.inference_mode():
                states = self.model(**tokens.to(self.device), output_hidden_states=True).hidden_states[layer].float().cpu().numpy()
            present = tokens["attention_mask"].cpu().numpy().astype(bool)
            found |= {text: (states[i][present[i]], ~marks[i][present[i]]) for i, text in enumerate(batch)}
        return found
