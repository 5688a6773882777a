"""The second engine: vLLM, for machines and clusters that have it.

Every look at a slot is a request of its own: picture, region and question, one token, and the probabilities of the tokens that may
follow; then the sentence is one more. All requests of a face share the picture's tokens, and all of a region the region's, through
vLLM's prefix cache, so what `QwenDescriber` does with a token tree vLLM does with its pages.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from pipeline.describe.checkpoints import ADAPTER_FILES, grammar_of, locate, locate_adapter, name_of
from pipeline.describe.decisions import MAX_SENTENCE, FocalDescriber, Hear, Scores, Write
from pipeline.describe.grammar import IMAGE_TOKEN, USER_IMAGE_END, USER_START, Grammar
from pipeline.describe.prefix import picture_side
from pipeline.describe.slots import Slot, add_slot, log_probabilities
from pipeline.describe.token_tree import TokenTree
from pipeline.errors import ModelError
from pipeline.records import Answer, Request
from pipeline.vocabulary import region_aus

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

MAX_CONTEXT = 4096
"""Tokens of a conversation, the picture's among them; more lets more boxes be asked in turn, and takes more memory."""

CPU_CACHE_BYTES = 1 << 30
"""Memory for the prefix cache on a CPU. It holds at least one conversation: 9000 tokens of a 7B model, 260000 of nano."""

CPU_BLOCK = 32
"""Tokens of a page of the prefix cache on a CPU, where vLLM's own 128 are longer than nano's prefixes; its kernels want multiples of 32."""

GPU_SHARE = 0.8
"""Share of a GPU's memory that vLLM takes; what is left is for the detector."""

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The room for an adapter's rank that vLLM can set aside."""


def open_vllm(model: str = "nano", *, adapter: str | None = None, device: str = "auto", batch_size: int = 32) -> VllmDescriber:
    """Open a checkpoint with vLLM: float32 on the CPU, bfloat16 on CUDA.

    Args:
        model, adapter: see `pipeline.describe.checkpoints.open_checkpoint`; the adapter stays apart from the weights.
        device: `auto`, `cpu` or `cuda`; an installed vLLM is made for one of the two.
        batch_size: regions whose requests are handed to vLLM together.

    Raises:
        ModelError: when vLLM is not installed, or something is missing or does not fit.
    """
    folder, added = locate(model), locate_adapter(adapter)
    # One process: no engine beside this one to start and stop, and what is killed is killed whole. And no report to its makers.
    for name, value in {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}.items():
        os.environ.setdefault(name, value)
    try:
        import vllm
        from vllm.lora.request import LoRARequest
        from vllm.platforms import current_platform
    except ImportError as error:
        raise ModelError(f"engine vllm is not installed ({error}); pip install 'focalface[vllm]', or use --engine transformers") from error
    on_cpu = current_platform.is_cpu()
    if device not in ("auto", "cpu" if on_cpu else "cuda"):
        choose = "" if on_cpu else "; choose a GPU with CUDA_VISIBLE_DEVICES"
        raise ModelError(f"device {device!r}: the vLLM installed here works on {'the CPU' if on_cpu else 'CUDA'}{choose}")
    from transformers import AutoConfig, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        grammar = grammar_of(folder, added)
        side = picture_side(config.vision_config, grammar)
        memory = {"kv_cache_memory_bytes": CPU_CACHE_BYTES, "block_size": CPU_BLOCK} if on_cpu else {"gpu_memory_utilization": GPU_SHARE}
        network = vllm.LLM(
            model=str(folder),
            dtype="float32" if on_cpu else "bfloat16",
            load_format="safetensors",
            generation_config="vllm",  # none of the checkpoint's habits of sampling
            enforce_eager=on_cpu,  # compiling takes longer there than it saves
            enable_prefix_caching=True,
            max_model_len=min(MAX_CONTEXT, config.text_config.max_position_embeddings),
            limit_mm_per_prompt={"image": 1, "video": 0},
            mm_processor_kwargs={"size": {"shortest_edge": side**2, "longest_edge": side**2}},  # pictures come in this size, and keep it
            use_tqdm_on_load=False,
            **memory,
            **(_room(added, config) if added else {}),
        )
    except ModelError:
        raise
    except Exception as error:  # the libraries beneath raise kinds of their own
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{folder}: not a Qwen2.5-VL checkpoint that vLLM can open ({reason})") from error
    lora = LoRARequest(added.name, 1, str(added)) if added else None
    return VllmDescriber(name_of(model, added), network, tokenizer, grammar, side, lora, batch_size)


def _room(adapter: Path, config: PretrainedConfig) -> dict[str, Any]:
    """What vLLM is to set aside for an adapter.

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


class VllmDescriber(FocalDescriber):
    """The describer over `vllm.LLM`.

    Args:
        network: of this checkpoint, in this process.
        lora: the adapter that every request names; none for the bare model.
    """

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
        super().__init__(name, grammar, tokenizer, side, batch_size)
        self._network, self._lora = network, lora
        # vLLM itself puts the picture's tokens where one of them stands.
        self._prefix = self._ids(USER_START + IMAGE_TOKEN + USER_IMAGE_END) + self._ids(grammar.instruction)
        # Of each slot: its action unit, itself, and each look's tokens from its question on.
        self._slots: list[tuple[str | None, Slot, list[list[int]]]] = []
        for au, (question, choices) in zip([*self.aus, None, None], grammar.slots(), strict=True):
            tree = TokenTree()
            slot = add_slot(tree, None, self._ids(question), [self._ids(choice) for choice in choices], self._newline)
            ids, seen = torch.tensor(tree.ids), tree.mask()
            self._slots.append((au, slot, [ids[seen[look]].tolist() for look in slot.readouts]))

    def _ask(self, requests: Sequence[Request]) -> Iterator[tuple[list[int], Scores, Write]]:
        heard = [[*self._prefix, *self._branch(request)] for request in requests]
        yield list(range(len(requests))), self._fields(requests, heard), partial(self._write, requests=requests, heard=heard)

    def _open(self, crop: np.ndarray) -> Hear:
        heard = list(self._prefix)

        def hear(said: list[int], request: Request) -> tuple[Scores, Write]:
            heard.extend([*said, *self._branch(request)])
            return self._fields([request], [heard]), partial(self._write, requests=[request], heard=[heard])

        return hear

    def _fields(self, requests: Sequence[Request], heard: Sequence[list[int]]) -> Scores:
        """Read the slots that follow each request's tokens, but for action units that its box cannot show: nobody asks for their scores."""
        from vllm import SamplingParams

        logits = [[torch.zeros(len(requests), len(ids)) for ids in slot.children] for _, slot, _ in self._slots]
        prompts, asked, places = [], [], []
        for row, (request, tokens) in enumerate(zip(requests, heard, strict=True)):
            picture, can_show = self._picture(request.crop), {None, *region_aus(request.region, request.box)}
            for (au, slot, tails), looks in zip(self._slots, logits, strict=True):
                for tail, ids, look in zip(tails, slot.children, looks, strict=True):
                    if au in can_show and len(ids) > 1:  # where one token alone may follow, there is nothing to ask
                        prompts.append(self._prompt(picture, [*tokens, *tail]))
                        asked.append(SamplingParams(max_tokens=1, temperature=0.0, logprob_token_ids=list(ids), detokenize=False))
                        places.append((look[row], ids))
        for output, (place, ids) in zip(self._generate(prompts, asked), places, strict=True):
            (said,) = output.logprobs  # over the whole vocabulary; what they are among the choices alone is worked out below
            place[:] = torch.tensor([said[token].logprob for token in ids])
        return [log_probabilities(slot, looks).exp().double().numpy() for (_, slot, _), looks in zip(self._slots, logits, strict=True)]

    def _write(self, decided: Sequence[Answer], requests: Sequence[Request], heard: Sequence[list[int]]) -> list[str]:
        """Greedy sentences after the decided fields, without the names of other emotions and ages."""
        from vllm import SamplingParams

        prompts = [
            self._prompt(self._picture(request.crop), [*tokens, *self._fields_ids(answer)])
            for request, tokens, answer in zip(requests, heard, decided, strict=True)
        ]
        asked = [
            SamplingParams(
                max_tokens=MAX_SENTENCE,
                temperature=0.0,
                ignore_eos=True,  # a checkpoint may name others beside the answer's end
                stop_token_ids=[self._end],
                logit_bias=dict.fromkeys(self.rivals(answer), -torch.inf),
                detokenize=False,
            )
            for answer in decided
        ]
        return [self._text(output.token_ids) for output in self._generate(prompts, asked)]

    def _picture(self, crop: np.ndarray) -> tuple[str, Image.Image]:
        """A picture and its identity, by which vLLM knows it again."""
        pixels = self._resized(crop)
        return hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest(), Image.fromarray(pixels)

    def _prompt(self, picture: tuple[str, Image.Image], ids: list[int]) -> dict[str, Any]:
        identity, image = picture
        return {"prompt_token_ids": ids, "multi_modal_data": {"image": [image]}, "multi_modal_uuids": {"image": [identity]}}

    def _generate(self, prompts: list[dict[str, Any]], asked: list[Any]) -> list[Any]:
        """What vLLM says to each prompt, in order."""
        return [answer.outputs[0] for answer in self._network.generate(prompts, asked, use_tqdm=False, lora_request=self._lora)]
