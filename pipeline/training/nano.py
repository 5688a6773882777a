"""The architecture of nano: a small Qwen2.5-VL and its tokenizer, built from scratch."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

from pipeline.describe.grammar import AGE_CHOICES, EMOTION_CHOICES, YES_NO, Grammar, region_text
from pipeline.describe.patches import grid_thw, patchify
from pipeline.describe.sentences import compose
from pipeline.describe.vision_tower import speed_up
from pipeline.errors import SettingsError
from pipeline.faces.alignment import CROP_SIZE
from pipeline.training.dense_supervision import DenseHead, DenseLogits
from pipeline.vocabulary import AUS, AUS_LABELLED, CUSTOM_BOX, EMOTIONS, REGIONS, UNIT

VISION_CONFIG: dict[str, Any] = {
    "depth": 6,
    "hidden_size": 256,
    "num_heads": 4,
    "intermediate_size": 704,
    "patch_size": 14,
    "out_hidden_size": 256,
    "fullatt_block_indexes": [0, 1, 2, 3, 4, 5],
    "window_size": 112,
}
"""The vision tower: 6.4 M parameters. A 112x112 face is 64 patches, 16 tokens after merging, one attention window."""

FACE_TOKENS = (CROP_SIZE // VISION_CONFIG["patch_size"] // 2) ** 2
"""Merged tokens of one face."""

MEAN, STD = torch.full((3,), 0.5), torch.full((3,), 0.25)
"""Pixel normalisation, equal for the channels: half of the faces that it is trained on are grey."""

PREPROCESSOR_CONFIG: dict[str, Any] = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "image_mean": MEAN.tolist(),
    "image_std": STD.tolist(),
    "patch_size": VISION_CONFIG["patch_size"],
    "temporal_patch_size": 2,
    "merge_size": 2,
    "min_pixels": CROP_SIZE**2,
    "max_pixels": CROP_SIZE**2,
}
"""Content of the checkpoint's `preprocessor_config.json`."""

GRAMMAR = Grammar(
    instruction="",
    au_slot=" {code}",
    emotion_slot=" emotion:",
    age_slot=" age:",
    aus=AUS_LABELLED,
    face_size=CROP_SIZE,
    mirror=True,
    au_levels=True,
)

_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")

_CORPUS_SENTENCES = 20_000
"""Sentences that the tokenizer is trained on."""


def build_tokenizer(seed: int = 0) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on the project's own sentences: each of their words is one token, any other text still encodes."""
    rng = random.Random(seed)
    words = " ".join(EMOTION_CHOICES + YES_NO) + GRAMMAR.emotion_slot + GRAMMAR.age_slot
    numbers = [f" {number}" for number in range(CROP_SIZE + 1)]
    corpus = [words, *AGE_CHOICES, *numbers, region_text((1, 2, 3, 4)), "user\n"] * 50
    for _ in range(_CORPUS_SENTENCES):
        aus = sorted(rng.sample(AUS, rng.randint(0, 6)))
        emotion, age = rng.choice(EMOTIONS), rng.randint(0, 100)
        region, empty = rng.choice((*REGIONS, CUSTOM_BOX)), not aus and rng.random() < 0.5
        degrees = {au: rng.uniform(0, 5) for au in aus if UNIT[au].graded}
        corpus.append(compose(aus, emotion, age, rng, region=region, empty=empty, intensities=degrees))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=list(_SPECIAL)
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_tokens([AddedToken(f" {au}", normalized=False) for au in AUS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=list(_SPECIAL[1:]),
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLForConditionalGeneration:
    """The architecture with random weights: 6.4 M parameters in the vision tower, 3.4 M in the language model."""
    token = tokenizer.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": -(-len(tokenizer) // 8) * 8,
            "hidden_size": VISION_CONFIG["out_hidden_size"],
            "intermediate_size": 768,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [8, 12, 12]},
            "bos_token_id": None,
            "eos_token_id": token("<|im_end|>"),
            "pad_token_id": token("<|endoftext|>"),
            "tie_word_embeddings": True,
        },
        vision_config=dict(VISION_CONFIG),
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    return Qwen2_5_VLForConditionalGeneration(config)


@torch.no_grad()
def inherit_weights(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, earlier: nn.Module, earlier_tokenizer: PreTrainedTokenizerBase
) -> None:
    """Start a model from an earlier one of the same shape but with another vocabulary.

    Words are matched by their text; a word that the earlier model did not have keeps its random embedding.

    Args:
        model, earlier: Qwen2.5-VLs; `model` is changed.
        tokenizer, earlier_tokenizer: theirs.

    Raises:
        SettingsError: another shape.
    """
    new, old = tokenizer.get_vocab(), earlier_tokenizer.get_vocab()
    words = [word for word in new if word in old]
    given = dict(earlier.named_parameters())
    for name, value in model.named_parameters():
        source = given.get(name)
        by_word = name.endswith("embed_tokens.weight")
        if source is None or source.shape[by_word:] != value.shape[by_word:]:
            raise SettingsError(f"--inherit: its {name} has another shape; name an earlier nano")
        if by_word:
            value[[new[word] for word in words]] = source[[old[word] for word in words]].to(value.dtype)
        else:
            value.copy_(source)


def save_checkpoint(
    model: Qwen2_5_VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    grammar: Grammar,
    preprocessor: dict[str, Any],
    folder: Path,
) -> None:
    """Write a Hugging Face checkpoint folder: weights, configuration, tokenizer, preprocessor, grammar.

    Args:
        preprocessor: content of `preprocessor_config.json`.
    """
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=1) + "\n")
    grammar.save(folder)


class DenseTower(nn.Module):
    """nano's vision tower with a dense head.

    Args:
        blendshapes: number of blendshapes in the labels.
    """

    def __init__(self, blendshapes: int) -> None:
        super().__init__()
        self.tower = speed_up(Qwen2_5_VisionTransformerPretrainedModel(Qwen2_5_VLVisionConfig(**VISION_CONFIG)))
        self.head = DenseHead(FACE_TOKENS, VISION_CONFIG["out_hidden_size"], blendshapes)

    def forward(self, crops: torch.Tensor) -> DenseLogits:
        """(B, 3, 112, 112) RGB, 0 to 255 -> logits of all labels."""
        patches = patchify(crops, mean=MEAN, std=STD)
        tokens = self.tower(patches, grid_thw(len(crops), CROP_SIZE, CROP_SIZE)).pooler_output  # [B * 16, D]
        return self.head(tokens.view(len(crops), FACE_TOKENS, -1))
