"""Description backends: a model in ONNX Runtime, behind transformers, behind vLLM, or behind an OpenAI-compatible endpoint.

In: `pipeline.records.Request`. Out: `pipeline.records.Answer`, one for each request, in order. To add a backend, add a module here. Its
name is the backend's name; its `open_describer` gets the arguments of `load_describer` and returns a
`pipeline.describe.describer.BaseDescriber`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from pipeline.describe.checkpoints import small_checkpoint
from pipeline.errors import ModelError
from pipeline.faces.detectors.devices import has_gpu
from pipeline.records import Answer, ModelInfo, Request
from pipeline.settings import AUTO, BACKENDS

if TYPE_CHECKING:
    from pipeline.describe.describer import BaseDescriber


class Describer(Protocol):
    """Answers batches of (face, box) requests.

    Attributes:
        name: the checkpoint, as the tables name it.
        aus: the action units that it knows.
        info: its name and thresholds, for `run.json`.
        replaced: number of its sentences so far that were replaced by the plain wording of their fields
            (`pipeline.describe.describer.checked`).
        writes_sentences: whether the model writes the sentences. If not, fields get their plain wording.
    """

    name: str
    aus: tuple[str, ...]
    info: ModelInfo
    replaced: int
    writes_sentences: bool

    def describe(self, requests: Sequence[Request], faces: Sequence[Request | Answer] | None = None) -> list[Answer]:
        """One answer for each request, in order. A request gets the same answer alone and in any batch.

        Args:
            requests: what is asked.
            faces: for each request its whole face: the answer about it where there is one, else the question. Emotion and age are then read
                once a face, and all its regions have them; a request about the whole face itself gets that answer with a sentence. None:
                every box is read by itself, as benchmarks ask.
        """
        ...

    def read(self, requests: Sequence[Request], mirror: bool = True) -> list[Answer]:
        """The fields of each request as `describe` gives them, without a sentence: `description` is empty. Reads large batches.

        Args:
            requests: what is asked.
            mirror: also read the face's mirror image, where the checkpoint asks for that, at twice the cost. On 5,968 validation faces it
                raised nano's emotion accuracy from 0.900 to 0.902 (FER+), its intensity r from 0.768 to 0.771, lowered its age error from
                5.19 to 5.15 years, and left its mean AU F1 as it was (0.646 and 0.643).
        """
        ...

    def converse(self, requests: Sequence[Request], faces: Sequence[Request | Answer] | None = None) -> list[Answer]:
        """One answer for each request, in order. Requests with the same face are the turns of one conversation, in their order; `faces` is
        as for `describe`.

        What a turn sees of the turns before it, the checkpoint says (`pipeline.describe.grammar.Grammar.earlier_turns`).
        """
        ...


def load_describer(
    model: str = "nano",
    *,
    adapter: str | None = None,
    backend: str = AUTO,
    endpoint: str | None = None,
    device: str = "auto",
    batch_size: int = 32,
    threads: int | None = None,
    sentences: str = "model",
) -> Describer:
    """Open a checkpoint as a describer.

    Args:
        model, adapter, device: see `pipeline.describe.checkpoints.open_checkpoint`; for the backend `openai`, the name of a model there.
        backend: `onnx` (small checkpoints, on the CPU), `transformers`, `vllm` where it is installed, `openai` for a server at
            `endpoint`, or `auto` (`automatic_backend`).
        endpoint: base URL of an OpenAI-compatible server, such as `http://localhost:8000/v1`.
        batch_size: requests answered together; memory grows with it, and speed up to a point.
        threads: CPU threads of the model in this process; None leaves them as they are.
        sentences: `model`: written by the model; `plain`: a fixed wording of the fields, in a little more than half of the time.

    Raises:
        ModelError: when the checkpoint cannot be opened, or the backend is not installed or does not answer.

    >>> describer = load_describer("nano", sentences="plain")
    >>> describer.aus[:3]
    ('AU01', 'AU02', 'AU04')
    """
    if backend == AUTO:
        backend = automatic_backend(model, adapter, device)
    if backend not in BACKENDS:
        raise ModelError(f"there is no backend {backend!r}; {', '.join(BACKENDS)} are")
    module = importlib.import_module(f"pipeline.describe.backends.{backend}")
    describer: BaseDescriber = module.open_describer(
        model, adapter=adapter, endpoint=endpoint, device=device, batch_size=batch_size, threads=threads
    )
    describer.writes_sentences = sentences == "model"
    return describer


def automatic_backend(model: str, adapter: str | None = None, device: str = "auto") -> str:
    """The fastest backend that can open a checkpoint in this process: `onnx` for a small one on the CPU, else `transformers`.

    Args:
        model, adapter, device: as for `load_describer`.

    >>> automatic_backend("nano", device="cpu"), automatic_backend("Qwen/Qwen2.5-VL-7B-Instruct")
    ('onnx', 'transformers')
    """
    on_cpu = device == "cpu" or (device == AUTO and not has_gpu())
    folder = small_checkpoint(model)
    if adapter or not on_cpu or folder is None:
        return "transformers"
    from pipeline.describe.backends.onnx import can_open

    return "onnx" if can_open(folder) else "transformers"
