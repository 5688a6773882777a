"""Loading a Qwen2.5-VL checkpoint into `pipeline.describe.network`, from memory-mapped safetensors files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from pipeline.describe.network import Qwen25VL
from pipeline.describe.network_config import parse_config, read_config
from pipeline.errors import ModelError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
"""Lists the files of a checkpoint whose weights are split over several files."""

EMBEDDING, OUTPUT = "model.language_model.embed_tokens.weight", "lm_head.weight"


def load_network(folder: Path, dtype: torch.dtype, device: str = "cpu") -> Qwen25VL:
    """Load a checkpoint.

    Args:
        folder: a Hugging Face checkpoint folder.
        dtype: type of the loaded weights.
        device: where they go.

    Raises:
        ModelError: when a file is missing, or the weights do not fit the configuration.
    """
    from safetensors import safe_open

    network = Qwen25VL(parse_config(read_config(folder)))
    weights: dict[str, torch.Tensor] = {}
    for path in weight_files(folder):
        with safe_open(path, framework="pt", device=device) as file:
            for name in file.keys():  # noqa: SIM118 - the file is no mapping
                weights[network_name(name)] = file.get_tensor(name).to(dtype)
    return fill(network, weights)


def weight_files(folder: Path) -> list[Path]:
    """The weight files of a checkpoint.

    Raises:
        ModelError: when there are none, or one that the index lists is missing.
    """
    names = [WEIGHTS]
    if (folder / INDEX).is_file():
        names = sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ModelError(f"{folder}: no {missing[0]} there; a checkpoint needs its weights as safetensors")
    return [folder / name for name in names]


def network_name(name: str) -> str:
    """The name that a checkpoint's tensor has in the network. Published checkpoints leave out parts of the path.

    >>> network_name("visual.merger.ln_q.weight"), network_name("model.norm.weight")
    ('model.visual.merger.ln_q.weight', 'model.language_model.norm.weight')
    """
    if name.startswith("visual."):
        return f"model.{name}"
    if name.startswith("model.") and not name.startswith(("model.visual.", "model.language_model.")):
        return f"model.language_model.{name.removeprefix('model.')}"
    return name


def fill(network: Qwen25VL, weights: Mapping[str, torch.Tensor]) -> Qwen25VL:
    """Put weights into a network, without a copy; returns the network in evaluation mode.

    Args:
        network: a network whose weights are not set yet.
        weights: name in the network -> tensor.

    Raises:
        ModelError: when a weight is missing, superfluous or of another shape.
    """
    weights = {name: weight for name, weight in weights.items() if not name.endswith("rotary_emb.inv_freq")}
    if EMBEDDING in weights and (network.config.tie_word_embeddings or OUTPUT not in weights):
        weights[OUTPUT] = weights[EMBEDDING]
    own = network.state_dict()
    for problem, names in (("lacks", own.keys() - weights.keys()), ("has an unknown", weights.keys() - own.keys())):
        if names:
            raise ModelError(f"the checkpoint {problem} tensor {min(names)}")
    if wrong := [name for name, weight in weights.items() if weight.shape != own[name].shape]:
        raise ModelError(f"tensor {wrong[0]} has the shape {_shape(weights[wrong[0]].shape)}, not {_shape(own[wrong[0]].shape)}")
    network.load_state_dict(weights, assign=True)
    return network.eval().requires_grad_(False)


def _shape(sizes: Iterable[int]) -> str:
    return "x".join(map(str, sizes))
