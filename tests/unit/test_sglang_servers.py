"""`lmgraph engine`: servers are started, waited for, found again and stopped. What is started here is a stand-in."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lmgraph.cli.app import app
from lmgraph.engines.local.model_folder import RECORD_FILE
from lmgraph.engines.sglang import environment
from lmgraph.engines.sglang.environment import environment_folder, is_built, sglang_python
from lmgraph.engines.sglang.known import KnownServer, known_servers, known_urls, process_birth, remember
from lmgraph.engines.sglang.launch import ServerPlan, find_server, server_flags, start_server, stop_server
from lmgraph.errors import ConfigError, EngineUnavailable

STAND_IN = """#!{python}
import os, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
if os.environ.get("STAND_IN_FAILS"):
    print("no kernel image is available")
    sys.exit(3)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
began = time.monotonic()
class Health(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if time.monotonic() - began > 0.5 else 503)
        self.end_headers()
    def log_message(self, *args): pass
port = int(sys.argv[sys.argv.index("--port") + 1])
HTTPServer(("127.0.0.1", port), Health).serve_forever()
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """lmgraph's folder with a pulled model, and an interpreter that starts the stand-in."""
    folder = tmp_path / "home"
    model = folder / "models" / "small"
    model.mkdir(parents=True)
    record = '{"name": "small", "source": "test", "revision": "1", "licence": "none", "files": {}}'
    (model / RECORD_FILE).write_text(record)
    python = tmp_path / "python"
    python.write_text(STAND_IN.format(python=sys.executable))
    python.chmod(0o755)
    monkeypatch.setenv("LMGRAPH_HOME", str(folder))
    monkeypatch.setenv("LMGRAPH_SGLANG_PYTHON", str(python))
    monkeypatch.delenv("LMGRAPH_SGLANG_API_KEY", raising=False)
    yield folder
    for server in known_servers():
        stop_server(server)


@pytest.fixture
def model(home: Path) -> str:
    return str(home / "models" / "small")


@pytest.fixture(autouse=True)
def _any_folder_is_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmgraph.engines.sglang.launch.resolve", lambda spec: Path(spec).resolve())


def test_up_waits_until_it_is_warm_and_down_stops_all_of_it(model: str) -> None:
    runner = CliRunner()
    done = runner.invoke(app, ["engine", "up", "--model", model, "--device", "cpu"])
    assert done.exit_code == 0, done.output
    url = next(line for line in done.stdout.splitlines() if line.startswith("http"))
    (server,) = known_servers()
    assert (server.url, server.model, server.device) == (url, "small", "cpu")
    assert known_urls("small") == known_urls(model) == known_urls("") == (url,)
    assert known_urls("another") == ()
    listed = runner.invoke(app, ["engine", "list"])
    assert f"{url}  small  cpu bfloat16  warm" in listed.stdout
    child = int(Path(server.log).read_text().split()[1])
    assert process_birth(child)
    assert f"stopped {url}" in runner.invoke(app, ["engine", "down"]).stdout
    assert not server.alive
    assert not process_birth(child)
    assert known_servers() == []
    assert "No server" in runner.invoke(app, ["engine", "list"]).stdout


def test_a_server_that_ends_is_an_error_with_its_last_words(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_FAILS", "1")
    with pytest.raises(EngineUnavailable, match="ended with 3") as failed:
        start_server(ServerPlan(model, "cpu"), lambda stage: None, timeout_seconds=60)
    assert "no kernel image" in failed.value.message
    assert known_servers() == []


def test_a_server_that_is_never_warm_is_stopped(model: str) -> None:
    with pytest.raises(EngineUnavailable, match="not warm after 0 s"):
        start_server(ServerPlan(model, "cpu"), lambda stage: None, timeout_seconds=0.0)
    assert known_servers() == []


def test_a_port_that_is_taken_is_refused(model: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"Port {port}"):
            start_server(ServerPlan(model, "cpu", port=port), lambda stage: None, timeout_seconds=5)


def test_an_address_that_others_reach_needs_a_key(model: str) -> None:
    with pytest.raises(ConfigError, match="no key is set") as refused:
        start_server(ServerPlan(model, "cpu", host="0.0.0.0"), lambda stage: None, timeout_seconds=5)
    assert "LMGRAPH_SGLANG_API_KEY" in (refused.value.hint or "")


def test_a_file_of_a_process_that_is_gone_is_no_server() -> None:
    gone = KnownServer("http://127.0.0.1:30999", "small", "/", "cpu", "bfloat16", os.getpid(), "another birth", "")
    remember(gone)
    assert gone.file.is_file()
    assert known_servers() == []
    assert not gone.file.exists()
    with pytest.raises(ConfigError, match="no server `30999`"):
        find_server("30999")


def test_down_asks_which_where_there_are_several(model: str) -> None:
    birth = process_birth(os.getpid())
    for port in (30901, 30902):
        remember(KnownServer(f"http://127.0.0.1:{port}", "small", "/", "cpu", "bfloat16", os.getpid(), birth, ""))
    try:
        done = CliRunner().invoke(app, ["engine", "down"])
        assert done.exit_code == 1
        assert find_server("30902").url == "http://127.0.0.1:30902"
        with pytest.raises(ConfigError, match="2 servers"):
            find_server("small")
    finally:
        for server in known_servers():
            server.file.unlink()


def test_flags_carry_what_serving_needs_and_no_key(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMGRAPH_SGLANG_API_KEY", "the-key")
    flags = server_flags(ServerPlan(model, "cpu", extra=("--tp-size=2",)), "small", Path(model), 30_000)
    assert flags[flags.index("--lora-backend") + 1] == "torch_native"
    assert flags[-1] == "--tp-size=2"
    assert {"--enable-lora", "--constrained-json-disable-any-whitespace"} <= set(flags)
    assert not any("key" in flag for flag in flags)
    cuda = server_flags(ServerPlan(model, "cuda"), "small", Path(model), 30_000)
    assert "torch_native" not in cuda


def test_an_interpreter_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("LMGRAPH_SGLANG_PYTHON", str(home / "none"))
    with pytest.raises(ConfigError, match="no interpreter"):
        sglang_python("cpu", lambda stage: None)


def test_a_build_that_fails_says_what_was_said_and_leaves_no_mark(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.delenv("LMGRAPH_SGLANG_PYTHON")
    monkeypatch.setattr("lmgraph.engines.sglang.environment.TORCH", "no-such-distribution-of-ours==0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    said: list[str] = []
    with pytest.raises(EngineUnavailable, match="no-such-distribution-of-ours"):
        sglang_python("cpu", said.append)
    assert said[0].startswith("making an environment")
    assert not (environment_folder("cpu") / ".lmgraph-complete").exists()


def test_an_environment_is_made_once_and_anew_for_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LMGRAPH_SGLANG_PYTHON")
    made: list[list[str]] = []
    monkeypatch.setattr(environment, "_run", lambda command, log: made.append(command))
    folder = environment_folder("cpu")
    folder.mkdir(parents=True)
    (folder / "left by a build that was killed").write_text("")
    monkeypatch.setattr(environment.shutil, "rmtree", _emptied := _Emptied())
    assert sglang_python("cpu", lambda stage: None) == folder / "bin" / "python"
    assert _emptied.folders == [folder]
    assert [command[1:4] for command in made][1:] == [["-m", "pip", "install"]] * 3
    assert made[1][-1].startswith("torch=="), "torch first and alone"
    assert is_built("cpu")
    made.clear()
    sglang_python("cpu", lambda stage: None)
    assert made == []
    monkeypatch.setattr(environment, "TORCH", "torch==9")
    assert not is_built("cpu")
    sglang_python("cpu", lambda stage: None)
    assert made[1][-1] == "torch==9"


class _Emptied:
    """Stands in for `rmtree`: notes what it was asked for, and leaves the folder for the mark."""

    def __init__(self) -> None:
        self.folders: list[Path] = []

    def __call__(self, folder: Path, ignore_errors: bool = False) -> None:
        self.folders.append(folder)
