"""What answers questions about faces: a model behind transformers, or behind vLLM.

In: `pipeline.records.Request`. Out: `pipeline.records.Answer`, one a request, in order. To add a backend, write a class with what
`Describer` asks for in a module of its own here, and give it a word in `load_describer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from pipeline.records import Answer, Request

if TYPE_CHECKING:
    from pipeline.describe.decisions import FocalDescriber


class Describer(Protocol):
    """Answers batches of (face, box) requests.

    Attributes:
        name: the checkpoint, as the tables name it.
        aus: the action units that it knows.
        replaced: how many of its sentences so far gave way to the plain wording of their fields (`checked`).
        own_words: whether sentences are the model's; else fields get their plain wording, and the model is asked for nothing more.
    """

    name: str
    aus: tuple[str, ...]
    replaced: int
    own_words: bool

    def describe(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer for each request, in order."""
        ...

    def read(self, requests: Sequence[Request]) -> list[Answer]:
        """The fields of each request, in order, without sentences: `description` is empty."""
        ...

    def converse(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer for each request, all of one face, each seeing the ones before it."""
        ...


def load_describer(
    model: str = "nano",
    *,
    adapter: str | None = None,
    device: str = "auto",
    batch_size: int = 32,
    threads: int | None = None,
    engine: str = "transformers",
    sentences: str = "model",
    frames: str = "auto",
) -> Describer:
    """Open a checkpoint as a describer.

    Args:
        model, adapter, device: see `pipeline.describe.checkpoints.open_checkpoint`.
        batch_size: requests answered together; memory grows with it, speed too up to a point.
        threads: CPU threads of torch, in this process; None leaves them.
        engine: `transformers`, or `vllm` where it is installed.
        sentences: the `model`'s own, or a `plain` wording of its fields, which takes a little more than half of the time.

        frames: which frames a run reads (`pipeline.describe.checkpoints.reads_all_frames`); it changes nothing here.

    Raises:
        ModelError: when the checkpoint cannot be opened, or the engine is not installed.

    >>> describer = load_describer("nano", device="cpu")  # doctest: +SKIP
    >>> describer.describe([Request(crop, (36, 68, 76, 92), "mouth")])[0].aus  # doctest: +SKIP
    ('AU12', 'AU25')
    """
    import torch

    from pipeline.describe.backends.transformers import QwenDescriber
    from pipeline.describe.checkpoints import open_checkpoint

    if threads is not None:
        torch.set_num_threads(threads)
    describer: FocalDescriber
    if engine == "vllm":
        from pipeline.describe.backends.vllm import open_vllm

        describer = open_vllm(model, adapter=adapter, device=device, batch_size=batch_size)
    else:
        describer = QwenDescriber(open_checkpoint(model, adapter=adapter, device=device), batch_size)
    describer.own_words = sentences == "model"
    return describer
