"""Training on a small part of the real faces: it learns, resumes after a kill to the same weights, and its checkpoint opens."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from pipeline.cli import main
from pipeline.dataset.build import build
from pipeline.describe.backends.transformers import TransformersDescriber
from pipeline.describe.checkpoints import open_checkpoint
from pipeline.describe.claims import claims
from pipeline.describe.grammar import ANSWER_END, Grammar, fields_text, region_text
from pipeline.describe.patches import grid_thw, patchify
from pipeline.describe.prefix import build_prefix
from pipeline.describe.sentences import speaks_of_region_first
from pipeline.errors import FocalfaceError, SettingsError
from pipeline.faces.alignment import CROP_SIZE
from pipeline.records import Request
from pipeline.training.augmentation import augmented_crops, centre_crops
from pipeline.training.batches import FocalCollator, SampleOrder, mirrored_box
from pipeline.training.conversation_trees import ConversationLayout, Turn
from pipeline.training.labelled_faces import SIDE, LabelledFaces, load_faces, mirror_names
from pipeline.training.lora import TARGETS, with_lora
from pipeline.training.nano import (
    GRAMMAR,
    MEAN,
    PREPROCESSOR_CONFIG,
    STD,
    build_model,
    build_tokenizer,
    inherit_weights,
    save_checkpoint,
)
from pipeline.training.preconditions import check_preconditions
from pipeline.training.run_stages import train
from pipeline.training.stage_folder import COMPLETE, StageFolder, identity
from pipeline.training.stage_settings import DenseStage, FocalStage, Stage, load_stage
from pipeline.vocabulary import AUS_LABELLED, EMOTIONS, mirrored_au

MARGIN = (SIDE - CROP_SIZE) // 2
CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "train"


@pytest.fixture(scope="module")
def data(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "faces"
    sources = [shared / "faces" / name for name in ("train-web.parquet", "train-ferplus.parquet", "val.parquet")]
    build(sources, folder, limit=64)
    return folder


@pytest.fixture(scope="module")
def faces(data: Path) -> LabelledFaces:
    return load_faces(data, "train")


def quiet(_: str) -> None:
    pass


def focal_stage(**changes: object) -> FocalStage:
    settings: dict[str, object] = {
        "name": "focal",
        "samples": 64,
        "batch": 16,
        "boxes": {"whole": 0.5, "named": 0.3, "random": 0.1, "empty": 0.1},
        "dialogue_share": 0.3,
        "invisible_au_weight": 0.2,
    }
    return FocalStage(**{**settings, **changes})  # type: ignore[arg-type]


def test_faces_are_aligned_with_their_labels(faces: LabelledFaces) -> None:
    assert faces.pixels.shape == (128, SIDE, SIDE, 3)
    eyes = {}
    for side in ("left_eye", "right_eye"):
        place = ("left_eye", "right_eye").index(side)
        rows = [faces.boxes_of(face, ["named"])[place] for face in range(len(faces))]
        eyes[side] = np.median(faces.box[rows][:, [0, 2]].mean(1))
    assert abs(eyes["left_eye"] - 38) < 3
    assert abs(eyes["right_eye"] - 74) < 3
    assert np.isnan(faces.age[faces.source == "ferplus"]).all()
    assert faces.aus_known[:, AUS_LABELLED.index("AU25")].all()
    assert not faces.aus_known[:, AUS_LABELLED.index("AU04")].all(), "null in the labels of a turned face is unknown"
    assert not faces.visible[faces.boxes_of(0, ["empty"])].any()


def test_centre_crops_are_unchanged(faces: LabelledFaces) -> None:
    pixels = torch.from_numpy(faces.pixels[:4])
    assert torch.equal(centre_crops(pixels), pixels[:, MARGIN:-MARGIN, MARGIN:-MARGIN].permute(0, 3, 1, 2).float())


def test_a_flip_mirrors(faces: LabelledFaces) -> None:
    pixels = torch.from_numpy(faces.pixels[:1])

    def mean_crop(flip: bool) -> torch.Tensor:
        crops = [augmented_crops(pixels, torch.Generator().manual_seed(seed), torch.tensor([flip])) for seed in range(40)]
        return torch.stack(crops).mean(0)

    plain, mirrored = mean_crop(False), mean_crop(True)
    assert torch.nn.functional.l1_loss(mirrored.flip(-1), plain) < 0.5 * torch.nn.functional.l1_loss(mirrored, plain)


def test_mirrored_names_and_boxes() -> None:
    assert mirror_names(["jawOpen", "mouthSmileLeft", "mouthSmileRight"]) == [0, 2, 1]
    assert mirrored_box(np.array([10.0, 5.0, 30.0, 20.0]), True) == (CROP_SIZE - 30, 5, CROP_SIZE - 10, 20)


def test_every_face_is_seen_once_before_any_is_seen_twice() -> None:
    order = SampleOrder(10, 25, seed=3)
    rows = [order[i][1] for i in range(25)]
    assert sorted(rows[:10]) == sorted(rows[10:20]) == list(range(10))
    assert rows[:10] != rows[10:20]
    assert rows == [SampleOrder(10, 25, seed=3)[i][1] for i in range(25)]


def test_a_batch_depends_only_on_its_sample_numbers(faces: LabelledFaces) -> None:
    tokenizer = build_tokenizer()
    layout = ConversationLayout(tokenizer, GRAMMAR, build_prefix(build_model(tokenizer), tokenizer, GRAMMAR))
    samples = [(32 + i, i) for i in range(8)]
    first = FocalCollator(faces, focal_stage(), layout)(samples)
    torch.manual_seed(99)
    second = FocalCollator(faces, focal_stage(), layout)(samples)
    assert torch.equal(first["crops"], second["crops"])
    assert torch.equal(first["questions"]["ids"], second["questions"]["ids"])


def test_a_tree_gives_the_logits_of_its_paths() -> None:
    """The logits at a slot of a dialogue's tree equal those of the plain conversation that leads to it."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    model = build_model(tokenizer).eval()
    prefix = build_prefix(model, tokenizer, GRAMMAR)
    layout = ConversationLayout(tokenizer, GRAMMAR, prefix)
    answer = tuple(layout.ids(fields_text(["AU12"], "happiness", 31) + "The lip corners are pulled up." + ANSWER_END))
    turns = [Turn((10, 10, 60, 60), answer, 4), Turn((20, 60, 90, 100), sees_previous=True), Turn((5, 5, 50, 30))]
    batch = layout.build([turns, turns[2:]])
    picture = torch.randint(0, 256, (1, 3, CROP_SIZE, CROP_SIZE)).float()
    pixels, grid = patchify(picture, mean=MEAN, std=STD), grid_thw(1, CROP_SIZE, CROP_SIZE)
    with torch.no_grad():
        seen = model.model.visual(pixels, grid).pooler_output
        embeds = model.model.language_model.embed_tokens(batch.ids)
        embeds[:, prefix.image] = seen
        mask = torch.zeros(batch.mask.shape).masked_fill_(~batch.mask, torch.finfo(torch.float32).min).unsqueeze(1)
        hidden = model.model.language_model(
            inputs_embeds=embeds, position_ids=batch.positions, attention_mask={"full_attention": mask}, use_cache=False
        ).last_hidden_state.flatten(0, 1)

        def plain(text: str) -> torch.Tensor:
            ids = torch.cat([prefix.ids, torch.tensor(layout.ids(text))])[None]
            (image,) = layout.ids("<|image_pad|>")
            out = model(
                input_ids=ids,
                pixel_values=pixels,
                image_grid_thw=grid,
                mm_token_type_ids=(ids == image).int(),
                attention_mask=torch.ones_like(ids),
            )
            return out.logits[0, -1]

        first, second, third = (region_text(turn.box) for turn in turns)
        said = tokenizer.decode(answer)
        slot = GRAMMAR.slots()[3][0]
        expected = [first + slot, first + said + second + slot, third + slot, third + slot]
        got = hidden[batch.readout_indices[3][:, 0]] @ model.lm_head.weight.T
        assert batch.face_of_turn.tolist() == [0, 0, 0, 1]
        for row, text in zip(got, expected, strict=True):
            assert torch.allclose(row, plain(text), atol=1e-3)
    assert batch.ids.flatten()[batch.target_indices].tolist() == list(answer[-4:])


def practised_sentences(faces: LabelledFaces, random_field_share: float, count: int, **boxes: float) -> list[str]:
    """A sentence about a box, of these kinds, of each of the first `count` faces, in order."""
    tokenizer = build_tokenizer()
    layout = ConversationLayout(tokenizer, GRAMMAR, build_prefix(build_model(tokenizer), tokenizer, GRAMMAR))
    stage = focal_stage(boxes=boxes, boxes_per_face=1, sentence_share=1.0, dialogue_share=0.0, random_field_share=random_field_share)
    batch = FocalCollator(faces, stage, layout)([(i, i) for i in range(count)])["questions"]
    text = tokenizer.decode(batch["ids"].flatten()[batch["target_indices"]], skip_special_tokens=False)
    return [sentence for sentence in text.split(ANSWER_END) if sentence]


def test_practised_answers_state_fields_of_the_face(faces: LabelledFaces) -> None:
    """Also of faces that have votes instead of a named emotion, or an age that was guessed; what a face lacks is random."""
    halved = np.arange(len(faces)) % 2 == 0
    votes = np.where(halved[:, None], np.eye(len(EMOTIONS), dtype=np.float32)[3], np.nan).astype(np.float32)
    guess = np.where(halved, 47, np.nan).astype(np.float32)
    changed = replace(faces, votes=votes, age=np.full(len(faces), np.nan, np.float32), age_guess=guess)
    for number, sentence in enumerate(practised_sentences(changed, 0.0, 64, whole=1)):
        said, known = claims(sentence), {au for au, is_known in zip(AUS_LABELLED, faces.aus_known[number], strict=True) if is_known}
        units = {au for au, on in zip(AUS_LABELLED, faces.aus[number], strict=True) if on and au in known}
        assert {au for au in said.aus if au in known} == units or {au for au in map(mirrored_au, said.aus) if au in known} == units, (
            sentence
        )
        if halved[number]:
            assert said.emotions <= {EMOTIONS[3]} and said.ages <= {47}
    random_ages = {age for sentence in practised_sentences(changed, 1.0, 64, whole=1) for age in claims(sentence).ages}
    assert len(random_ages) > 20


def test_practised_answers_about_regions_speak_of_the_region_first(faces: LabelledFaces) -> None:
    """Also of faces whose action units are not known: an answer always has fields, and its sentence says them."""
    unknown = replace(faces, aus_known=np.zeros_like(faces.aus_known), visible=np.zeros_like(faces.visible))
    for known in (faces, unknown):
        for sentence in practised_sentences(known, 0.5, 64, named=8, joined=1, empty=1):
            assert speaks_of_region_first(sentence), sentence


def test_practised_dialogues_state_one_emotion_and_age(faces: LabelledFaces) -> None:
    tokenizer = build_tokenizer()
    layout = ConversationLayout(tokenizer, GRAMMAR, build_prefix(build_model(tokenizer), tokenizer, GRAMMAR))
    collate = FocalCollator(faces, focal_stage(sentence_share=1.0, dialogue_share=0.5, random_field_share=0.5), layout)
    shares = []
    for start in range(0, 64, 8):
        batch = collate([(start + i, start + i) for i in range(8)])["questions"]
        text = tokenizer.decode(batch["ids"].flatten()[batch["target_indices"]], skip_special_tokens=False)
        sentences = [sentence for sentence in text.split(ANSWER_END) if sentence]
        assert len(sentences) >= 8
        for sentence in sentences:
            said = claims(sentence)
            assert len(said.emotions) == len(said.ages) == 1
            assert said.aus <= set(AUS_LABELLED)
        later = batch["face_of_turn"][~batch["first_turns"]]
        shares.append(len(later.unique()) / 8)
    assert set(shares) == {0.0, 1.0}, "the faces of a step all have dialogues, or none of them"


@pytest.mark.slow
def test_the_stages_make_a_checkpoint_that_answers(data: Path, faces: LabelledFaces, tmp_path: Path) -> None:
    """All files of configs/train, shortened, in their order."""
    files = sorted(CONFIGS.glob("[0-9]-*.yaml"))
    stages: list[Stage] = [load_stage(file, {"samples": 64, "batch": 32}) for file in files]
    four = ["global", "region", "focal", "dialogue"]
    assert [stage.name for stage in stages] == ["teacher", "tower", *four, "settle", "refine", "finish", "deepen"]
    assert len({stage.sampling_seed for stage in stages}) == len(stages), "each stage has its own order of faces"
    folder = train(stages, data, tmp_path, log=quiet)
    assert folder == tmp_path / "nano"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 25e6
    for stage in stages:
        log = pq.read_table(tmp_path / stage.name / "log.parquet").to_pylist()
        assert {row["stage"] for row in log} == {stage.name}
        assert {"loss", "learning_rate"} <= {row["name"] for row in log}
        figures = json.loads((tmp_path / stage.name / "figures.json").read_text())
        assert {f"val_{name}" for name in figures} <= {row["name"] for row in log}
        assert (tmp_path / stage.name / "curves.png").stat().st_size > 1000
        assert not (tmp_path / stage.name / "state").exists()
    describer = TransformersDescriber(open_checkpoint(str(folder), device="cpu"))
    assert set(describer.grammar.thresholds) == set(describer.aus)
    face = np.ascontiguousarray(faces.pixels[0, MARGIN:-MARGIN, MARGIN:-MARGIN])
    (answer,) = describer.describe([Request(face, (36, 70, 76, 94), "mouth")])
    assert answer.description
    assert set(answer.au_scores) <= set(describer.aus)
    assert set(answer.au_intensities) == set(answer.au_scores), "every unit of the mouth has an intensity"
    assert all(0 <= answer.au_scores[au] <= 1 and 0 <= value <= 5 for au, value in answer.au_intensities.items())
    renewed = [load_stage(file, {"samples": 64, "batch": 32}) for file in sorted((CONFIGS / "renew").glob("*.yaml"))]
    shutil.copytree(tmp_path / "teacher", tmp_path / "again" / "teacher")
    second = train(renewed, data, tmp_path / "again", log=quiet, inherit="nano")
    assert open_checkpoint(str(second), device="cpu").grammar.au_levels
    lines: list[str] = []
    train(stages, data, tmp_path, log=lines.append)
    assert not any(line.startswith("==") for line in lines), "finished stages are not repeated"
    with pytest.raises(FocalfaceError, match="another seed"):
        train([load_stage(files[0], {"samples": 64, "batch": 32, "seed": 1})], data, tmp_path, log=quiet)


def test_a_new_nano_inherits_what_an_earlier_one_knows(faces: LabelledFaces) -> None:
    """Texts of words that both know are answered alike, although their tokenizers number them differently."""
    earlier = open_checkpoint("nano", device="cpu")
    tokenizer = build_tokenizer(seed=3)
    assert tokenizer.get_vocab() != earlier.tokenizer.get_vocab()
    model = build_model(tokenizer)
    inherit_weights(model, tokenizer, earlier.model, earlier.tokenizer)
    said = []
    for network, words in ((model, tokenizer), (earlier.model, earlier.tokenizer)):
        ids = torch.tensor([words.encode(" AU12 AU25 happiness 31\nThe lip corners are", add_special_tokens=False)])
        with torch.no_grad():
            logits = network.eval()(input_ids=ids).logits[0, -1].float()
        said.append([float(logits[words.convert_tokens_to_ids(f"\u0120{word}")]) for word in ("pulled", "raised", "the", "up")])
    assert said[0] == pytest.approx(said[1], abs=2e-3)
    other = build_model(tokenizer)
    other.model.language_model.layers = other.model.language_model.layers[:1]
    with pytest.raises(SettingsError, match="another shape"):
        inherit_weights(model, tokenizer, other, tokenizer)


COMMAND = [sys.executable, "-m", "pipeline.cli", "train"]


@pytest.mark.slow
def test_a_kill_in_mid_stage_changes_nothing(data: Path, tmp_path: Path) -> None:
    settings = (
        "name: focal\nsamples: 160\nbatch: 8\nboxes: {whole: 1.0, named: 1.0}\ndialogue_share: 0.2\ndense_weight: 1.0\nsave_every: 4\n"
    )
    (tmp_path / "focal.yaml").write_text(settings)
    command = [*COMMAND, str(tmp_path / "focal.yaml"), "--data", str(data)]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # sums over several threads differ in their last bits
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True, capture_output=True, env=alone)
    killed = subprocess.Popen(
        [*command, "--out", str(tmp_path / "killed")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=alone
    )
    states = tmp_path / "killed" / "focal" / "state"
    while killed.poll() is None and len(list(states.glob("checkpoint-*/complete"))) < 2:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL, "it was killed before it ended"
    resumed = subprocess.run([*command, "--out", str(tmp_path / "killed")], check=True, capture_output=True, text=True, env=alone)
    assert "resuming after" in resumed.stdout
    whole, resumed_weights = (load_file(tmp_path / name / "focal" / "checkpoint" / "model.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == resumed_weights.keys()
    assert all(torch.equal(whole[name], resumed_weights[name]) for name in whole)
    curves = [pq.read_table(tmp_path / name / "focal" / "log.parquet") for name in ("whole", "killed")]
    assert curves[0].equals(curves[1])


def small_model(folder: Path) -> Path:
    """A random Qwen2.5-VL that is not nano: other sizes, window attention in its tower, the default way of asking."""
    torch.manual_seed(5)
    tokenizer = build_tokenizer()
    token = tokenizer.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": -(-len(tokenizer) // 8) * 8,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
            "eos_token_id": token("<|im_end|>"),
            "pad_token_id": token("<|endoftext|>"),
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "num_heads": 2,
            "intermediate_size": 128,
            "patch_size": 14,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [1],
            "window_size": 56,
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    save_checkpoint(
        Qwen2_5_VLForConditionalGeneration(config), tokenizer, Grammar(face_size=112, instruction=""), PREPROCESSOR_CONFIG, folder
    )
    return folder


@pytest.mark.slow
def test_adapters_on_another_model(data: Path, faces: LabelledFaces, tmp_path: Path) -> None:
    """Loss falls, the adapter is saved, `describe` opens it and answers otherwise than the base."""
    base = small_model(tmp_path / "base")
    stages: list[Stage] = [
        load_stage(file, {"samples": 480, "batch": 16, "learning_rate": 3e-3, "tower_learning_rate": 1e-3, "sentence_share": 1.0})
        for file in sorted((CONFIGS / "lora").glob("[13]*.yaml"))
    ]
    adapter = train(stages, data, tmp_path / "out", model=str(base), log=quiet)
    assert adapter.name == "adapter"
    names = {path.name for path in adapter.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "focal.json"} <= names
    assert "model.safetensors" not in names
    log = pq.read_table(tmp_path / "out" / "global" / "log.parquet").to_pandas()
    loss = log[log.name == "loss"].sort_values("step").value
    assert loss.iloc[-1] < loss.iloc[0] - 0.2
    face = np.ascontiguousarray(faces.pixels[0, MARGIN:-MARGIN, MARGIN:-MARGIN])
    request = Request(face, (0, 0, 112, 112), "face")
    plain = TransformersDescriber(open_checkpoint(str(base), device="cpu")).describe([request])[0]
    tuned = TransformersDescriber(open_checkpoint(str(base), adapter=str(adapter), device="cpu"))
    assert tuned.aus == AUS_LABELLED
    assert tuned.describe([request])[0].emotion_scores != plain.emotion_scores
    stored = load_file(adapter / "adapter_model.safetensors")
    save_file({f"base_model.model.other.{name}": value for name, value in stored.items()}, adapter / "adapter_model.safetensors")
    with pytest.raises(FocalfaceError, match="no place in this model"):
        open_checkpoint(str(base), adapter=str(adapter), device="cpu")


def test_adapters_sit_in_language_tower_and_merger_and_nowhere_else(tmp_path: Path) -> None:
    model = with_lora(open_checkpoint(str(small_model(tmp_path / "base")), device="cpu").model, rank=4)
    trained = {
        name.partition(".lora_")[0].removeprefix("base_model.model.") for name, value in model.named_parameters() if value.requires_grad
    }
    language = {name for name in trained if "language_model.layers" in name}
    vision = {name for name in trained if "visual.blocks" in name}
    merger = {name for name in trained if "visual.merger" in name}
    assert len(language) == 2 * 7
    assert len(vision) == 2 * 5
    assert len(merger) == 2
    assert trained == language | vision | merger
    assert "patch_embed" not in TARGETS


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: x\nsamples: 10\nboxes: {mouths: 1}", "unknown kind mouths"),
        ("name: x\nsamples: 0\nboxes: {whole: 1}", "samples"),
        ("name: x\nsamples: 10\nboxes: {whole: 1}\ncolour: red", "colour"),
        ("name: x\nsamples: 10\nnetwork: teacher\nteacher_share: 0.5", "the teacher has no teacher"),
        ("- a list", "keys and values"),
        ("name: [", "not YAML"),
    ],
)
def test_an_invalid_stage_file_is_refused_before_any_work(text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "stage.yaml").write_text(text)
    with pytest.raises(SystemExit) as exit:
        main(["train", str(tmp_path / "stage.yaml"), "--data", str(tmp_path), "--out", str(tmp_path / "out")])
    assert exit.value.code == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_precondition_is_refused_before_anything_is_created(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "file").write_text("not a folder")
    faults: list[tuple[str, list[Stage], dict[str, object]]] = [
        ("train the teacher first", [focal_stage(name="early"), focal_stage(teacher_share=0.5)], {}),
        ("train the teacher first", [load_stage(CONFIGS / "0-tower.yaml")], {}),
        ("--model", [focal_stage(tune="lora")], {}),
        ("dataset build", [focal_stage()], {"data": tmp_path / "nothing"}),
        ("no config.json", [focal_stage()], {"model": str(tmp_path)}),
        ("no LoRA adapter", [focal_stage(tune="lora")], {"model": "nano", "adapter": tmp_path}),
        ("none of these stages", [focal_stage()], {"adapter": tmp_path}),
        ("same name", [focal_stage(), focal_stage()], {}),
        ("is a file", [focal_stage()], {"out": tmp_path / "file"}),
    ]
    for says, stages, changes in faults:
        arguments: dict[str, Any] = {"data": data, "out": out, "log": quiet, **changes}
        with pytest.raises(FocalfaceError, match=says):
            train(stages, **arguments)
        assert not out.exists(), says


def test_a_corrected_command_may_use_the_folder_of_one_that_failed_early(data: Path, tmp_path: Path) -> None:
    failed, corrected = focal_stage(batch=64), focal_stage(batch=16)
    folder = StageFolder(tmp_path, "focal")
    folder.write_settings(identity(failed, data, None, None))
    check_preconditions([corrected], data, tmp_path)
    (folder.states / "checkpoint-4").mkdir(parents=True)
    check_preconditions([corrected], data, tmp_path)
    (folder.states / "checkpoint-4" / COMPLETE).touch()
    with pytest.raises(FocalfaceError, match="another batch"):
        check_preconditions([corrected], data, tmp_path)
    check_preconditions([failed], data, tmp_path)


def test_a_teacher_may_come_earlier_in_the_same_command(data: Path, tmp_path: Path) -> None:
    teacher = load_stage(CONFIGS / "0-teacher.yaml")
    assert isinstance(teacher, DenseStage)
    check_preconditions([teacher, focal_stage(teacher_share=0.5)], data, tmp_path)


@pytest.mark.slow
def test_several_workers_train_as_a_ray_job(data: Path, tmp_path: Path) -> None:
    (tmp_path / "focal.yaml").write_text(
        "name: focal\nsamples: 128\nbatch: 16\nboxes: {whole: 1.0}\nquestion_share: 0.5\ndense_weight: 1.0\n"
    )
    job = Path(__file__).resolve().parents[1] / "jobs" / "train.py"
    command = [
        sys.executable,
        str(job),
        "--workers",
        "2",
        str(tmp_path / "focal.yaml"),
        "--data",
        str(data),
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=job.parents[1])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert TransformersDescriber(open_checkpoint(str(tmp_path / "out" / "nano"), device="cpu")).aus == AUS_LABELLED
    steps = pq.read_table(tmp_path / "out" / "focal" / "log.parquet").to_pandas().step
    assert steps.max() <= 128 // 16, "the workers shared the samples"
