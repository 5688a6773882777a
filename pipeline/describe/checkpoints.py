"""Finding and opening checkpoints: the embedded one, a folder, or a hub id; always safetensors, never remote code."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.describe.grammar import FILE, Grammar
from pipeline.errors import ModelError
from pipeline.settings import DescribeGroup

if TYPE_CHECKING:  # finding a checkpoint needs neither, and they take seconds to import
    import torch
    from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration

EMBEDDED = Path(__file__).parents[1] / "models"
"""Folder of the checkpoints that come with the package, one folder a name."""

SMALL_BYTES = 200 * 2**20
"""Weights up to which `describe.frames: auto` reads every frame: some 100 million parameters, read in hundredths of a second."""

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")

_FILES = ["*.safetensors", "*.json", "*.txt", "*.jinja"]


@dataclass(frozen=True)
class Checkpoint:
    """An opened Qwen2.5-VL with what is needed to ask it.

    Attributes:
        name: as it was asked for, with the adapter's folder name where there is one.
        model: in evaluation mode, on its device.
        tokenizer: its tokenizer.
        grammar: how it is asked.
        mean, std: (3,) pixel normalisation.
    """

    name: str
    model: Qwen2_5_VLForConditionalGeneration
    tokenizer: PreTrainedTokenizerBase
    grammar: Grammar
    mean: torch.Tensor
    std: torch.Tensor


def embedded() -> dict[str, Path]:
    """The checkpoints that come with the package: name -> folder."""
    return {config.parent.name: config.parent for config in sorted(EMBEDDED.glob("*/config.json"))}


def locate(model: str) -> Path:
    """The local folder of a checkpoint; a hub id is fetched (or found in the hub's cache) first.

    Raises:
        ModelError: when there is no such checkpoint.
    """
    if model in (known := embedded()):
        return known[model]
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder}: no config.json there; give the folder of a Hugging Face checkpoint")
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, allow_patterns=_FILES))
    except Exception as error:
        names = ", ".join(known) or "none"
        reason = str(error).partition("\n")[0]
        raise ModelError(f"model {model!r} is neither embedded ({names}), nor a folder, nor to be had from the hub ({reason})") from error


def locate_adapter(adapter: str | None) -> Path | None:
    """The folder of a LoRA adapter, where one is asked for.

    Raises:
        ModelError: when there is no adapter in it.
    """
    if adapter is None:
        return None
    folder = Path(adapter).expanduser()
    if not all((folder / name).is_file() for name in ADAPTER_FILES):
        raise ModelError(f"{folder}: no LoRA adapter there ({' and '.join(ADAPTER_FILES)})")
    return folder


def reads_all_frames(settings: DescribeGroup) -> bool:
    """Whether a run reads the whole face in every sampled frame, or only in the frames that it describes.

    Args:
        settings: with `frames`: `all`, `described`, or `auto`: all frames for checkpoints on this machine of at most `SMALL_BYTES`.

    >>> reads_all_frames(DescribeGroup()), reads_all_frames(DescribeGroup(model="Qwen/Qwen2.5-VL-7B-Instruct"))
    (True, False)
    """
    if settings.frames != "auto" or settings.backend == "openai":
        return settings.frames == "all"
    folder = embedded().get(settings.model, Path(settings.model).expanduser())
    weights = [file.stat().st_size for file in folder.glob("*.safetensors")] if folder.is_dir() else []
    return 0 < sum(weights) <= SMALL_BYTES


def name_of(model: str, adapter: Path | None) -> str:
    """A checkpoint's name in the tables."""
    return f"{model}+{adapter.name}" if adapter else model


def grammar_of(folder: Path, adapter: Path | None) -> Grammar:
    """How a checkpoint is asked; an adapter that was tuned here knows how it was asked."""
    return Grammar.load(adapter if adapter and (adapter / FILE).is_file() else folder)


def fingerprint(folder: Path) -> str:
    """A checkpoint's identity by content: a digest over its configuration, grammar and weights."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), folder / "config.json", folder / FILE]):
        if path.is_file():
            with path.open("rb") as file:
                digest.update(f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def open_checkpoint(model: str = "nano", *, adapter: str | None = None, device: str = "auto") -> Checkpoint:
    """Load a Qwen2.5-VL: float32 on the CPU, bfloat16 on CUDA.

    Args:
        model: an embedded name, a checkpoint folder or a hub id.
        adapter: folder of a LoRA adapter, merged into the weights.
        device: `auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`.

    Raises:
        ModelError: when something is missing or does not fit.
    """
    import torch
    from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration
    from transformers.utils import logging as transformers_logging

    from pipeline.describe.vision_tower import speed_up

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"device {device!r}: this machine's torch sees no CUDA device; use --device cpu")
    folder, added = locate(model), locate_adapter(adapter)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    transformers_logging.disable_progress_bar()
    try:
        network = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, attn_implementation="sdpa"
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        pixels = json.loads((folder / "preprocessor_config.json").read_text())
        mean, std = torch.tensor(pixels["image_mean"]), torch.tensor(pixels["image_std"])
    except Exception as error:  # the libraries beneath raise kinds of their own
        raise ModelError(f"{folder}: not a Qwen2.5-VL checkpoint that can be opened ({str(error).partition(chr(10))[0]})") from error
    if added:
        network = _with_adapter(network, added)
    network = speed_up(network).to(device).eval()
    return Checkpoint(name_of(model, added), network, tokenizer, grammar_of(folder, added), mean.to(device), std.to(device))


def _with_adapter(network: Qwen2_5_VLForConditionalGeneration, folder: Path) -> Any:
    """Merge a LoRA adapter; an adapter whose tensors do not all find their place would silently do nothing, so it is an error."""
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file

    adapted = PeftModel.from_pretrained(network, str(folder))
    stored = load_file(folder / "adapter_model.safetensors")
    placed = {name.replace(".default.", "."): tensor for name, tensor in adapted.state_dict().items() if "lora_" in name}
    for name, tensor in stored.items():
        if name not in placed or not torch.equal(placed[name].float().cpu(), tensor.float()):
            raise ModelError(f"{folder}: adapter tensor {name} has no place in this model; was it made for another one?")
    return adapted.merge_and_unload()
