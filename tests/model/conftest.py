"""A real SGLang server for the tests that ask for one.

LMGRAPH_TEST_SGLANG names it by its URL, or is `start`: then one is started for the session and stopped after it. `make
test` does the latter, in a run of its own. The environment that a server runs in is built once, in lmgraph's folder.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator

import pytest

from lmgraph.engines.home import lmgraph_home
from lmgraph.engines.sglang.environment import PYTHON_VARIABLE, environment_folder, is_built, sglang_python
from lmgraph.engines.sglang.launch import ServerPlan, start_server, stop_server
from lmgraph.errors import EngineUnavailable

ASKED = os.environ.get("LMGRAPH_TEST_SGLANG", "")
NEEDED_GB = 5.0
NO_NETWORK = ("connection broken by", "Could not fetch URL", "from versions: none", "Read timed out")
_untested: list[str] = []


@pytest.fixture(scope="session")
def sglang_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a server in float32 with the small model, that takes adapters up to rank 16."""
    if ASKED.startswith("http"):
        yield ASKED
        return
    if ASKED != "start":
        _skip("LMGRAPH_TEST_SGLANG names no server; `make test` starts one")
    if reason := _unable():
        _skip(reason)
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(stage: str) -> None:
        if stage not in said:
            said.add(stage)
            with capture.global_and_fixture_disabled():
                sys.stderr.write(f"\nSGLang: {stage}\n")

    said: set[str] = set()
    try:
        sglang_python("cpu", say)
    except EngineUnavailable as problem:
        if any(sign in (problem.message + _log()) for sign in NO_NETWORK):
            _skip(f"its environment cannot be built without a network: {problem.message}")
        raise
    server = start_server(ServerPlan("smollm2-135m", "cpu", dtype="float32"), say, timeout_seconds=600)
    try:
        yield server.url
    finally:
        stop_server(server)


def _unable() -> str:
    """Why this machine cannot have a server, or nothing."""
    if os.environ.get(PYTHON_VARIABLE):
        return ""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return f"SGLang runs on a CPU on Linux x86_64; this is {sys.platform} {platform.machine()}"
    if sys.version_info[:2] != (3, 11):
        return f"its packages are known for Python 3.11; this is {platform.python_version()}"
    if not is_built("cpu"):
        home = lmgraph_home()
        home.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(home).free / 1e9
        if free < NEEDED_GB:
            return f"its environment takes about 3 GB and {home} has {free:.1f} GB left"
    return ""


def _log() -> str:
    log = environment_folder("cpu").with_name(f"{environment_folder('cpu').name}.log")
    return log.read_text("utf-8", errors="replace") if log.is_file() else ""


def _skip(reason: str) -> None:
    _untested.append(reason)
    pytest.skip(f"NO REAL SGLANG SERVER IS TESTED: {reason}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _untested:
        terminalreporter.section("NO REAL SGLANG SERVER WAS TESTED", sep="!", red=True, bold=True)
        terminalreporter.line(_untested[0])
