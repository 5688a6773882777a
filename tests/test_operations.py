"""Running archives safely: the plan before a run, the times after it, clusters, and files that try to run code."""

from __future__ import annotations

import ast
import json
import pickle
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import av
import jsonschema
import numpy as np
import psutil
import pytest
import ray
import typer
import yaml
from pydantic import BaseModel, ConfigDict, Field
from ray import autoscaler

from pipeline.commands.submit import command
from pipeline.describe.backends import load_describer
from pipeline.errors import ModelError, SettingsError
from pipeline.execution.analysis import analyse_video
from pipeline.execution.executors.ray import RayExecutor
from pipeline.execution.planning import plan
from pipeline.execution.resources import plan_workers
from pipeline.execution.timing import STAGES, StageTimer, slowest
from pipeline.faces.detectors import load_detector
from pipeline.settings import load_settings
from pipeline.storage.remote import _belongs
from pipeline.storage.run_folder import RunFolder, empty, file_mark, video_id

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "configs" / "cluster"


def focalface(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "pipeline.cli", *words], capture_output=True, text=True, check=False)


# ---- the plan


@pytest.fixture
def archive(tmp_path: Path) -> tuple[Path, Path]:
    """Three files, and a run that has done two of them, one of which has changed since."""
    films, out = tmp_path / "films", tmp_path / "out"
    films.mkdir()
    for name in ("done", "changed", "new"):
        (films / f"{name}.mp4").write_text("one")
    folder = RunFolder(out)
    folder.begin({})
    for name in ("done", "changed"):
        file = films / f"{name}.mp4"
        row = {"video_id": video_id(file), "path": str(file), "status": "no_faces"}
        folder.commit(row, empty("faces"), empty("descriptions"), file_mark(file))
    folder.finish()
    (films / "changed.mp4").write_text("another")
    return films, out


def test_a_dry_run_lists_what_would_be_done_and_changes_nothing(archive: tuple[Path, Path]) -> None:
    films, out = archive
    shown = focalface("run", str(films), "--out", str(films.parent / "none"), "--dry-run", "--window", "2")
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[:3] == [f"todo     {films}/{name}.mp4" for name in ("changed", "done", "new")]
    assert lines[3] == "videos   3: 3 to do, 0 changed and to do again, 0 done"
    assert any(line.startswith("select ") and "window=2.0" in line for line in lines)
    assert not (films.parent / "none").exists()

    before = {file: file.stat().st_mtime_ns for file in out.rglob("*")}
    states = {Path(video.path).stem: video.state for video in plan([str(films)], out, load_settings(), overwrite=True).videos.values()}
    assert states == dict.fromkeys(("changed", "done", "new"), "todo")
    with pytest.raises(SettingsError, match=r"tables without a run\.json"):
        plan([str(films)], out, load_settings())
    settings = load_settings(assignments=["execution.address=auto"])  # as on a cluster: the checkpoint is on the nodes
    (out / "run.json").write_text(json.dumps({"settings": {"focalface": _version(), **settings.identity()}}))
    before[out / "run.json"] = (out / "run.json").stat().st_mtime_ns
    before[out] = out.stat().st_mtime_ns
    states = {Path(video.path).stem: video.state for video in plan([str(films)], out, settings).videos.values()}
    assert states == {"changed": "changed", "done": "done", "new": "todo"}
    with pytest.raises(SettingsError, match=r"select\.window was 1\.0, now 2\.0"):
        plan([str(films)], out, load_settings(assignments=["execution.address=auto", "select.window=2"]))
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*")} | {out: out.stat().st_mtime_ns} == before


def _version() -> str:
    from pipeline import __version__

    return __version__


# ---- times and failures


def test_each_moment_counts_for_one_stage() -> None:
    timer = StageTimer()
    began = time.perf_counter()
    with timer.stage("track"):
        for _ in timer.each("decode", iter(range(50))):
            with timer.stage("detect"):
                time.sleep(0.0005)
    took = time.perf_counter() - began
    spent = timer.take()
    assert set(spent) == {"track", "decode", "detect"}
    assert sum(spent.values()) == pytest.approx(took, rel=0.05)
    assert max(spent, key=lambda name: spent[name]) == "detect" == slowest(spent)[0][0]
    assert sum(share for _, share in slowest(spent)) == pytest.approx(1)
    assert timer.take() == {} and slowest({}) == []


def test_the_seconds_of_a_video_are_those_of_its_stages_without_the_time_of_the_consumer(samples: Path) -> None:
    settings = load_settings(assignments=["video.fps=4", "describe.batch_size=2"])
    path, detector = str(samples / "single_face.mp4"), load_detector("centerface")
    for _ in analyse_video(str(samples / "no_face.mp4"), settings, detector):
        pass  # the first video pays for the imports of the stages
    chunks = analyse_video(path, settings, detector)
    spent: dict[str, float] = {}
    counted = waited = 0.0
    began = time.perf_counter()
    for chunk in chunks:
        waited += time.perf_counter() - began
        for stage, seconds in chunk.stage_seconds.items():
            spent[stage] = spent.get(stage, 0.0) + seconds
        counted += chunk.elapsed_s
        assert counted <= waited
        time.sleep(0.1)  # time of the consumer
        began = time.perf_counter()
    assert {"decode", "detect", "track", "select"} <= set(spent) <= set(STAGES)
    assert sum(spent.values()) == pytest.approx(counted)
    assert counted > 0.8 * waited


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"", "empty"), (b"text\n" * 99, "not_a_video"), (bytes(5000), "not_a_video"), (None, "missing")],
)
def test_a_failed_video_has_a_kind_of_error(content: bytes | None, kind: str, tmp_path: Path) -> None:
    file = tmp_path / "memory, empty file, no permission.mp4"  # the path must not decide the kind
    if content is not None:
        file.write_bytes(content)
    (chunk,) = analyse_video(str(file), load_settings(), load_detector("centerface"))
    assert chunk.video is not None and chunk.video["status"] == "failed"
    assert chunk.video["error_kind"] == kind


@pytest.mark.slow
def test_the_dashboard_listens_on_loopback_only() -> None:
    assert load_settings().execution.dashboard_host is None
    with RayExecutor(load_settings(assignments=["execution.dashboard_host=127.0.0.1"])):
        node = ray._private.worker._global_node
        assert node is not None
        url = node.webui_url
        port = int(url.rpartition(":")[2])
        listening = [one.laddr for one in psutil.net_connections("tcp") if one.status == "LISTEN" and one.laddr.port == port]
        assert {address.ip for address in listening} == {"127.0.0.1"}


# ---- clusters


def test_stages_run_on_the_nodes_that_offer_their_resource() -> None:
    settings = load_settings(CLUSTER / "run.yaml")
    has = {"CPU": 160, "GPU": 2, "decode": 150, "describe": 2, "memory": 400 << 30}
    assert (plan_workers(settings, has, 5000).analysers, plan_workers(settings, has, 5000).describers) == (75, 2)
    assert plan_workers(settings, {"memory": 8 << 30}, 5000).on_gpu  # no GPU has been started yet
    free = settings.model_copy(update={"execution": settings.execution.model_copy(update={"analysers": None, "describers": None})})
    assert (plan_workers(free, has, 5000).analysers, plan_workers(free, has, 5000).describers) == (150, 2)


def test_the_cluster_file_follows_rays_schema() -> None:
    config = yaml.safe_load((CLUSTER / "ray.yaml").read_text())
    schema = json.loads((Path(autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.Draft7Validator(schema).validate(config)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(schema).validate(config | {"worker_nodes_typo": {}})
    nodes = config["available_node_types"]
    assert config["head_node_type"] in nodes
    assert sum(node.get("max_workers", 0) for node in nodes.values()) <= config["max_workers"]
    check_resources({name: node["resources"] for name, node in nodes.items()})
    (start,) = [line for line in config["head_start_ray_commands"] if "--head" in line]
    assert "--dashboard-host=127.0.0.1" in start


def check_resources(nodes: dict[str, dict[str, float]]) -> None:
    """Check that the nodes offer what `run.yaml` asks for: some decode, others describe."""
    asked = load_settings(CLUSTER / "run.yaml").execution
    decoding = [name for name, has in nodes.items() if has.get(asked.analyser_resource or "")]
    describing = [name for name, has in nodes.items() if has.get(asked.describer_resource or "")]
    assert len(decoding) == len(describing) == 1 and decoding != describing
    assert "GPU" not in nodes[decoding[0]] and nodes[describing[0]]["GPU"] >= 1
    assert nodes[decoding[0]]["CPU"] >= nodes[decoding[0]][asked.analyser_resource or ""]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Container(_Strict):
    name: str
    image: str
    env: list[dict[str, str]] = []
    envFrom: list[dict[str, dict[str, str]]] = []
    ports: list[dict[str, int | str]] = []
    resources: dict[str, dict[str, str]]


class _PodSpec(_Strict):
    containers: list[_Container] = Field(min_length=1)
    tolerations: list[dict[str, str]] = []


class _Template(_Strict):
    spec: _PodSpec


class _Group(_Strict):
    groupName: str
    replicas: int
    minReplicas: int
    maxReplicas: int
    rayStartParams: dict[str, str]
    template: _Template


class _Head(_Strict):
    rayStartParams: dict[str, str]
    template: _Template


class _Cluster(_Strict):
    rayVersion: str
    enableInTreeAutoscaling: bool
    autoscalerOptions: dict[str, int]
    headGroupSpec: _Head
    workerGroupSpecs: list[_Group]


class _JobSpec(_Strict):
    entrypoint: str
    runtimeEnvYAML: str
    submissionMode: str = Field(pattern="^(K8sJobMode|HTTPMode|InteractiveMode|SidecarMode)$")
    backoffLimit: int
    shutdownAfterJobFinishes: bool
    ttlSecondsAfterFinished: int
    rayClusterSpec: _Cluster


class _RayJob(_Strict):
    """The fields of KubeRay's RayJob, ray.io/v1, that the manifest uses, with their types."""

    apiVersion: str = Field(pattern=r"^ray\.io/v1$")
    kind: str = Field(pattern="^RayJob$")
    metadata: dict[str, str]
    spec: _JobSpec


def test_the_kuberay_manifest_has_known_fields_only() -> None:
    job = _RayJob.model_validate(yaml.safe_load((CLUSTER / "rayjob.yaml").read_text())).spec
    cluster = job.rayClusterSpec
    assert cluster.rayVersion == ray.__version__
    nodes = {}
    for group in cluster.workerGroupSpecs:
        assert group.minReplicas <= group.replicas <= group.maxReplicas
        limits = group.template.spec.containers[0].resources["limits"]
        offered = json.loads(json.loads(group.rayStartParams["resources"]))  # quoted twice, because KubeRay passes it through a shell
        gpus = {"GPU": int(limits["nvidia.com/gpu"])} if "nvidia.com/gpu" in limits else {}
        nodes[group.groupName] = {"CPU": int(limits["cpu"]), **gpus, **offered}
    check_resources(nodes)
    python, script, *words = shlex.split(job.entrypoint)
    assert python == "python" and (ROOT / script).is_file()
    assert command([*words[2:], "--config", str(ROOT / words[1])])[1].execution.analyser_resource == "decode"


# ---- trust


class _Malice:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return Path.touch, (self.mark,)  # type: ignore[return-value]


def test_weights_that_could_run_code_are_not_read(tmp_path: Path) -> None:
    model, mark = tmp_path / "model", tmp_path / "ran"
    model.mkdir()
    for file in (ROOT / "pipeline/models/nano").iterdir():
        if file.suffix != ".safetensors":
            (model / file.name).write_bytes(file.read_bytes())
    payload = pickle.dumps(_Malice(mark))
    pickle.loads(payload)
    assert mark.exists()  # the payload works where it is unpickled
    mark.unlink()
    for name in ("pytorch_model.bin", "model.pt", "model.pkl", "pytorch_model.bin.index.json"):
        (model / name).write_bytes(payload)
        with pytest.raises(ModelError):
            load_describer(str(model))
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "nano"}))
    (adapter / "adapter_model.bin").write_bytes(payload)
    with pytest.raises(ModelError):
        load_describer("nano", adapter=str(adapter))
    (tmp_path / "detector.onnx").write_bytes(payload)
    with pytest.raises(ModelError):
        load_detector(str(tmp_path / "detector.onnx"))
    assert not mark.exists()


def test_no_shell_is_used_and_only_messages_between_workers_are_unpickled() -> None:
    forbidden = {"system", "popen", "getoutput", "getstatusoutput", "eval", "exec", "create_subprocess_shell"}
    for file in [*(ROOT / "pipeline").rglob("*.py"), *(ROOT / "jobs").glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            module = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
            assert name not in forbidden or module not in {"", "os", "subprocess", "asyncio"}, f"{file}:{node.lineno}"
            assert not any(key.arg in {"shell", "trust_remote_code"} and ast.unparse(key.value) == "True" for key in node.keywords), file
            if (module, name) in {("pickle", "load"), ("pickle", "loads"), ("torch", "load"), ("joblib", "load")}:
                assert ROOT / "pipeline/execution" in file.parents, f"{file}:{node.lineno}"  # between its own workers, never from a file


@pytest.mark.parametrize("name", ["a b.mp4", "it's.mp4", "$(touch ran).mp4", "`x`;y&z|.mp4", "two\nlines.mp4", "--debug", "é\u202e.mp4"])
def test_file_names_reach_the_cluster_unchanged(name: str) -> None:
    words, settings = command(
        ["--out", "s3://r/x y", "--regions", "eyes,mouth", "--set", "describe.model=o'hara", "--", f"s3://f/{name}", name]
    )
    assert shlex.split(shlex.join(words)) == words
    echoed = subprocess.run(["sh", "-c", shlex.join(["printf", "%s\\0", *words])], capture_output=True, check=True, text=True).stdout
    assert echoed.split("\0")[:-1] == words
    assert words[-2:] == [f"s3://f/{name}", str(Path.cwd() / name)]
    assert 'describe.model="o\'hara"' in words and settings.select.regions == "eyes,mouth"
    sets = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    assert sets[0] == "execution.address=auto"  # the cluster that the job is on
    assert load_settings(assignments=sets[1:]) == settings


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a.mp4", "--out", "x", "--fsp", "3"], "No such option"),
        (["a.mp4", "--out", "x", "--set", "video.fsp=3"], "did you mean video.fps"),
        (["a.mp4", "--out", "x", "--fps", "-1"], "video.fps"),
        (["a.mp4"], "out"),
        (["a.mp4", "--out", "x", "--set", "execution.address=auto"], "execution.address"),
        (["a.mp4", "--out", "x", "--dry-run"], "--dry-run"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(words: list[str], says: str) -> None:
    with pytest.raises((SettingsError, typer.TyperException)) as raised:
        command(words)
    fault = raised.value
    said = fault.format_message() if isinstance(fault, typer.TyperException) else str(fault)
    assert says.lower() in said.lower() and "\n" not in said


def test_metadata_of_a_video_never_names_a_file(tmp_path: Path) -> None:
    film = tmp_path / "films" / "film.mkv"
    film.parent.mkdir()
    with av.open(str(film), "w") as target:
        target.metadata.update({"title": "../../evil", "filename": "/tmp/evil", "comment": "$(touch evil)"})
        stream = target.add_stream("mpeg4", 10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.metadata.update({"filename": "../evil", "title": "../evil"})
        for _ in range(5):
            target.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")))
        target.mux(stream.encode())
    (*_, last) = analyse_video(str(film), load_settings(), load_detector("centerface"))
    assert last.video is not None and last.video["status"] == "no_faces"
    folder = RunFolder(tmp_path / "out")
    folder.begin({})
    folder.commit(last.video | {"elapsed_s": 0.0}, empty("faces"), empty("descriptions"), "1")
    folder.finish()
    written = {file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert all(re.fullmatch(r"(videos|faces|descriptions)/[0-9a-f]{16}\.parquet", name) for name in written) and len(written) == 3
    assert not any("evil" in str(file) for file in tmp_path.rglob("*"))


@pytest.mark.parametrize("name", ["../evil", "videos/../../evil", "/etc/evil", "a/b/c/d", "_partial/x", ".hidden", ""])
def test_object_names_never_lead_out_of_the_run_folder(name: str) -> None:
    assert not _belongs(name)


def test_errors_of_the_cluster_are_one_line() -> None:
    ended = focalface("jobs", "list", "--address", "http://127.0.0.1:1")
    assert ended.returncode == 2
    assert ended.stderr.startswith("focalface: no Ray job server answers at http://127.0.0.1:1"), ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_ray_that_does_not_start_is_one_line(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "file"))
    words = ["-m", "pipeline.cli", "run", str(samples / "no_face.mp4"), "--out", str(tmp_path / "run"), "--set", "execution.executor=ray"]
    ended = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.strip().splitlines()[-1].startswith("focalface: Ray does not start here: "), ended.stderr
