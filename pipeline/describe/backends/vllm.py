"""The vLLM backend, for machines and clusters that have it.

Each readout of a slot is one vLLM request: picture, region and question, one token to generate, and the probabilities of the tokens that
may follow. The sentence is one more request. All requests of a face share the picture's tokens through vLLM's prefix cache, and all of a
region the region's: what the transformers backend does with a token tree, vLLM does with cache pages.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from pipeline.describe.checkpoints import ADAPTER_FILES, grammar_of, locate, locate_adapter, name_of
from pipeline.describe.describer import BaseDescriber, Prompt, resized
from pipeline.describe.fields import Fields, unit_readings
from pipeline.describe.grammar import IMAGE_TOKEN, USER_IMAGE_END, USER_START, Grammar
from pipeline.describe.prefill import log_probabilities
from pipeline.describe.slots import Slot, add_slot
from pipeline.describe.token_tree import TokenTree
from pipeline.describe.tokens import MAX_SENTENCE, PromptTokens
from pipeline.errors import ModelError
from pipeline.records import Answer
from pipeline.vocabulary import region_aus

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

MAX_CONTEXT = 4096
"""Tokens of a conversation, the picture's included; more allows more turns, and takes more memory."""

CPU_CACHE_BYTES = 1 << 30
"""Memory of the prefix cache on a CPU: 9,000 tokens of a 7B model, 260,000 of nano. It must hold one conversation."""

CPU_BLOCK = 32
"""Tokens of a page of the prefix cache on a CPU. vLLM's default of 128 is longer than nano's prefix; its kernels need multiples of 32."""

GPU_SHARE = 0.8
"""Share of a GPU's memory that vLLM takes; the detector has the rest."""

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The maximum ranks that vLLM can be told to reserve memory for."""


def open_describer(
    model: str = "nano",
    *,
    adapter: str | None = None,
    device: str = "auto",
    batch_size: int = 32,
    threads: int | None = None,
    endpoint: str | None = None,
) -> VllmDescriber:
    """Open a checkpoint with vLLM: float32 on the CPU, bfloat16 on CUDA.

    Args:
        model, adapter: see `pipeline.describe.checkpoints.open_checkpoint`; the adapter is not merged into the weights.
        device: `auto`, `cpu` or `cuda`; an installed vLLM is built for one of the two.
        batch_size: regions whose requests are handed to vLLM together.
        threads: CPU threads of torch; None leaves them as they are.
        endpoint: not used.

    Raises:
        ModelError: when vLLM is not installed, or something is missing or does not fit.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    folder, added = locate(model), locate_adapter(adapter)
    # No second process: nothing to start and stop, and nothing is left behind by a kill. And no usage reports.
    for name, value in {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}.items():
        os.environ.setdefault(name, value)
    try:
        import vllm
        from vllm.lora.request import LoRARequest
        from vllm.platforms import current_platform
    except ImportError as error:
        raise ModelError(
            f"the backend vllm is not installed ({error}); pip install 'focalface[vllm]', or use --backend transformers"
        ) from error
    on_cpu = current_platform.is_cpu()
    if device not in ("auto", "cpu" if on_cpu else "cuda"):
        choose = "" if on_cpu else "; choose a GPU with CUDA_VISIBLE_DEVICES"
        raise ModelError(f"device {device!r}: the vLLM installed here works on {'the CPU' if on_cpu else 'CUDA'}{choose}")
    from transformers import AutoConfig, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        grammar = grammar_of(folder, added)
        side = grammar.picture_side(config.vision_config.patch_size * config.vision_config.spatial_merge_size)
        memory = {"kv_cache_memory_bytes": CPU_CACHE_BYTES, "block_size": CPU_BLOCK} if on_cpu else {"gpu_memory_utilization": GPU_SHARE}
        network = vllm.LLM(
            model=str(folder),
            dtype="float32" if on_cpu else "bfloat16",
            load_format="safetensors",
            generation_config="vllm",  # not the checkpoint's sampling defaults
            enforce_eager=on_cpu,  # compiling takes longer there than it saves
            enable_prefix_caching=True,
            max_model_len=min(MAX_CONTEXT, config.text_config.max_position_embeddings),
            limit_mm_per_prompt={"image": 1, "video": 0},
            mm_processor_kwargs={"size": {"shortest_edge": side**2, "longest_edge": side**2}},  # pictures have this size already
            use_tqdm_on_load=False,
            **memory,
            **(_adapter_options(added, config) if added else {}),
        )
    except ModelError:
        raise
    except Exception as error:  # the libraries beneath raise kinds of their own
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{folder}: not a Qwen2.5-VL checkpoint that vLLM can open ({reason})") from error
    lora = LoRARequest(added.name, 1, str(added)) if added else None
    return VllmDescriber(name_of(model, added), network, tokenizer, grammar, side, lora, batch_size)


def _adapter_options(adapter: Path, config: PretrainedConfig) -> dict[str, Any]:
    """vLLM's options for an adapter.

    Raises:
        ModelError: when a tensor of the adapter has no place in the model (vLLM would leave it out and say nothing), or vLLM cannot
            serve adapters of its kind.
    """
    from safetensors import safe_open
    from transformers import Qwen2_5_VLForConditionalGeneration

    with torch.device("meta"):  # names and shapes alone
        places = dict(Qwen2_5_VLForConditionalGeneration(config).named_modules())
    settings, weights = (adapter / name for name in ADAPTER_FILES)
    with safe_open(weights, "pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    for name, shape in shapes.items():
        module, _, kind = name.removeprefix("base_model.model.").partition(".lora_")
        place = places.get(module)
        fits = {"A.weight": (1, "in_features"), "B.weight": (0, "out_features")}.get(kind)
        if fits is None or getattr(place, fits[1], None) != shape[fits[0]]:
            raise ModelError(f"{adapter}: adapter tensor {name} has no place in this model; was it made for another one?")
    rank = json.loads(settings.read_text())["r"]
    if rank > LORA_RANKS[-1]:
        raise ModelError(f"{adapter}: vLLM takes adapters up to rank {LORA_RANKS[-1]}, not {rank}")
    return {
        "enable_lora": True,
        "max_loras": 1,
        "max_lora_rank": next(room for room in LORA_RANKS if room >= rank),
        "enable_tower_connector_lora": any(".visual." in name for name in shapes),  # else it leaves the vision tower's tensors out
    }


class VllmDescriber(BaseDescriber):
    """The describer over `vllm.LLM`."""

    def __init__(
        self,
        name: str,
        network: Any,
        tokenizer: PreTrainedTokenizerBase,
        grammar: Grammar,
        side: int,
        lora: Any = None,
        batch_size: int = 32,
    ) -> None:
        """Describe with an opened model.

        Args:
            name: the checkpoint, as the tables name it.
            network: `vllm.LLM` in this process.
            tokenizer, grammar: of the checkpoint.
            side: width of the square picture that the model is shown, in pixels.
            lora: the adapter that every request names; None for the bare model.
            batch_size: requests answered together.
        """
        super().__init__(name, grammar, batch_size)
        self._network, self._lora, self._side = network, lora, side
        self._tokens = PromptTokens(tokenizer, grammar, side)
        # One image token stands for all of them; vLLM multiplies it.
        self._prefix = self._tokens.encode(USER_START + IMAGE_TOKEN + USER_IMAGE_END) + self._tokens.encode(grammar.instruction)
        # Each slot: its action unit, the slot, and for each readout the tokens from the question on.
        self._slots: list[tuple[str | None, Slot, list[list[int]]]] = []
        for au, (question, choices) in zip([*self.aus, None, None], self._tokens.slots, strict=True):
            tree = TokenTree()
            slot = add_slot(tree, None, question, choices, self._tokens.newline)
            ids, seen = np.array(tree.ids), tree.mask()
            self._slots.append((au, slot, [ids[seen[readout]].tolist() for readout in slot.readouts]))

    def _read(self, prompts: list[Prompt], then_write: bool) -> list[Fields]:
        """Read the slots of each prompt. Action units that its box cannot show are not asked."""
        from vllm import SamplingParams

        logits = [[torch.zeros(len(prompts), len(ids)) for ids in slot.children] for _, slot, _ in self._slots]
        inputs, sampling, places = [], [], []
        for row, prompt in enumerate(prompts):
            picture, question = self._picture(prompt.request.crop), [*self._prefix, *self._tokens.question(prompt)]
            can_show = {None, *region_aus(prompt.request.region, prompt.request.box)}
            for (au, slot, tails), readouts in zip(self._slots, logits, strict=True):
                for tail, ids, readout in zip(tails, slot.children, readouts, strict=True):
                    if au in can_show and len(ids) > 1:  # where one token alone may follow, there is nothing to ask
                        inputs.append(self._input(picture, [*question, *tail]))
                        sampling.append(SamplingParams(max_tokens=1, temperature=0.0, logprob_token_ids=list(ids), detokenize=False))
                        places.append((readout[row], ids))
        for output, (place, ids) in zip(self._generate(inputs, sampling), places, strict=True):
            (said,) = output.logprobs  # over the whole vocabulary; renormalised over the choices below
            place[:] = torch.tensor([said[token].logprob for token in ids])
        *units, emotion, age = (
            log_probabilities(slot, readouts).exp().double().numpy() for (_, slot, _), readouts in zip(self._slots, logits, strict=True)
        )
        readings = [unit_readings(self.aus, [unit[row] for unit in units]) for row in range(len(prompts))]
        return [Fields(scores, emotion[row], age[row], au_intensities=intensities) for row, (scores, intensities) in enumerate(readings)]

    def _write(self, prompts: list[Prompt], answers: Sequence[Answer]) -> list[str]:
        """Greedy sentences after the decided fields, without the names of other emotions and ages."""
        from vllm import SamplingParams

        inputs = [
            self._input(self._picture(prompt.request.crop), [*self._prefix, *self._tokens.question(prompt), *self._tokens.fields(answer)])
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        sampling = [
            SamplingParams(
                max_tokens=MAX_SENTENCE,
                temperature=0.0,
                ignore_eos=True,  # a checkpoint may name other tokens beside the answer's end
                stop_token_ids=[self._tokens.end],
                logit_bias=dict.fromkeys(self._tokens.barred(answer), -torch.inf),
                detokenize=False,
            )
            for answer in answers
        ]
        return [self._tokens.decode(output.token_ids) for output in self._generate(inputs, sampling)]

    def _picture(self, crop: np.ndarray) -> tuple[str, Image.Image]:
        """A picture and the id by which vLLM recognises it."""
        pixels = resized(crop, self._side)
        return hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest(), Image.fromarray(pixels)

    def _input(self, picture: tuple[str, Image.Image], ids: list[int]) -> dict[str, Any]:
        identity, image = picture
        return {"prompt_token_ids": ids, "multi_modal_data": {"image": [image]}, "multi_modal_uuids": {"image": [identity]}}

    def _generate(self, inputs: list[dict[str, Any]], sampling: list[Any]) -> list[Any]:
        """vLLM's output for each input, in order."""
        return [answer.outputs[0] for answer in self._network.generate(inputs, sampling, use_tqdm=False, lora_request=self._lora)]
