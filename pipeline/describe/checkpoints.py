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

if TYPE_CHECKING:  # finding a checkpoint needs neither of them, and importing them takes seconds
    import torch
    from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration

EMBEDDED = Path(__file__).parents[1] / "models"
"""Folder of the checkpoints that come with the package; each is a folder of its name."""

SMALL_BYTES = 200 * 2**20
"""Size of weights up to which `describe.frames: auto` reads every frame, and `describe.backend: auto` is onnx: about 100 million parameters
in bfloat16."""

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")

_FILES = ["*.safetensors", "*.json", "*.txt", "*.jinja"]


@dataclass(frozen=True)
class Checkpoint:
    """An opened Qwen2.5-VL and what is needed to ask it.

    Attributes:
        name: as the user typed it, with the folder name of the adapter if there is one.
        model: in evaluation mode, on its device.
        tokenizer: of the checkpoint.
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
    """Name to folder of the checkpoints that come with the package."""
    return {config.parent.name: config.parent for config in sorted(EMBEDDED.glob("*/config.json"))}


def locate(model: str) -> Path:
    """The local folder of a checkpoint. A checkpoint of the hub is downloaded first, unless the hub's cache has it.

    Args:
        model: an embedded name, a checkpoint folder or a hub id.

    Raises:
        ModelError: when there is no such checkpoint.

    >>> locate("nano").name
    'nano'
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
        raise ModelError(f"model {model!r} is neither embedded ({names}) nor a folder, and the hub does not give it ({reason})") from error


def locate_adapter(adapter: str | None) -> Path | None:
    """The folder of a LoRA adapter; None for None.

    Raises:
        ModelError: when the folder has no adapter.
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
    if settings.frames != "auto" or not settings.is_local:
        return settings.frames == "all"
    return small_checkpoint(settings.model) is not None


def small_checkpoint(model: str) -> Path | None:
    """The folder of a checkpoint on this machine whose weights are at most `SMALL_BYTES`; None for another one."""
    folder = embedded().get(model, Path(model).expanduser())
    weights = [file.stat().st_size for file in folder.glob("*.safetensors")] if folder.is_dir() else []
    return folder if 0 < sum(weights) <= SMALL_BYTES else None


def name_of(model: str, adapter: Path | None) -> str:
    """Name of a checkpoint, with its adapter, in the tables."""
    return f"{model}+{adapter.name}" if adapter else model


def grammar_of(folder: Path, adapter: Path | None) -> Grammar:
    """The grammar of a checkpoint. An adapter that this project trained has one of its own."""
    return Grammar.load(adapter if adapter and (adapter / FILE).is_file() else folder)


def fingerprint(folder: Path) -> str:
    """Identity of a checkpoint by its content: a digest of its configuration, grammar and weights."""
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
        adapter: folder of a LoRA adapter; it is merged into the weights.
        device: `auto` (CUDA if available), `cpu`, `cuda` or `cuda:N`.

    Raises:
        ModelError: when the checkpoint or the adapter is missing or does not fit, or there is no such device.
    """
    import torch
    from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration
    from transformers.utils import logging as transformers_logging

    from pipeline.describe.vision_tower import speed_up

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"device {device!r}: torch finds no CUDA device on this machine; use --device cpu")
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
    except Exception as error:  # the libraries raise exceptions of many types
        raise ModelError(f"{folder}: not a Qwen2.5-VL checkpoint that can be opened ({str(error).partition(chr(10))[0]})") from error
    if added:
        network = _with_adapter(network, added)
    network = speed_up(network).to(device).eval()
    return Checkpoint(name_of(model, added), network, tokenizer, grammar_of(folder, added), mean.to(device), std.to(device))


def _with_adapter(network: Qwen2_5_VLForConditionalGeneration, folder: Path) -> Any:
    """Merge a LoRA adapter into the weights.

    Raises:
        ModelError: when a tensor of the adapter has no place in the model; peft would ignore it.
    """
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
