"""Starts and stops SGLang servers on this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lmgraph.engines.local.supply import is_folder_spec, resolve
from lmgraph.engines.sglang.environment import Device, last_lines, sglang_python
from lmgraph.engines.sglang.known import (
    API_KEY_VARIABLE,
    KnownServer,
    forget,
    is_healthy,
    known_servers,
    process_birth,
    remember,
    servers_folder,
)
from lmgraph.errors import ConfigError, EngineUnavailable
from lmgraph.runtime.addresses import is_loopback

FIRST_PORT, LAST_PORT = 30_000, 30_999
LORA_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LOOK_SECONDS = 1.0
STOP_SECONDS = 20.0
SERVE = Path(__file__).parent / "cpu" / "serve.py"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """A server to start."""

    model: str
    device: Device
    host: str = "127.0.0.1"
    port: int | None = None
    """None: the first free one from 30000 on."""
    dtype: str = "bfloat16"
    lora_rank: int = 16
    """The largest rank of adapters that it takes."""
    extra: Sequence[str] = field(default_factory=tuple)
    """Further flags of SGLang, as they are."""


def find_device() -> Device:
    """`cuda` where NVIDIA's driver answers."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "cpu"
    told = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False)
    return "cuda" if told.returncode == 0 and "GPU" in told.stdout else "cpu"


def start_server(plan: ServerPlan, say: Say, *, timeout_seconds: float) -> KnownServer:
    """Start a server and wait until it is warm; what is said to ``say`` is progress. It outlives this process.

    Raises: ConfigError for a port that is taken, or an address that others reach without a key; EngineUnavailable if
    the model is not pulled, SGLang cannot be installed, or the server ends or is not warm in time: then it is stopped.
    """
    folder = resolve(plan.model)
    model = folder.name if is_folder_spec(plan.model) else plan.model
    url_host = f"[{plan.host}]" if ":" in plan.host else plan.host
    if not is_loopback(f"http://{url_host}") and not os.environ.get(API_KEY_VARIABLE):
        raise ConfigError(
            f"A server on {plan.host} can be reached by others, and no key is set.",
            hint=f"set {API_KEY_VARIABLE}, or leave --host at 127.0.0.1",
        )
    port = free_port(plan.host, plan.port)
    python = sglang_python(plan.device, say)
    servers_folder().mkdir(parents=True, exist_ok=True)
    log = servers_folder() / f"{port}.log"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    command = [str(python), str(SERVE), *server_flags(plan, model, folder, port)]
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
    reached = "127.0.0.1" if plan.host in ("0.0.0.0", "::") else url_host
    server = KnownServer(
        f"http://{reached}:{port}",
        model,
        str(folder),
        plan.device,
        plan.dtype,
        process.pid,
        process_birth(process.pid),
        str(log),
    )
    try:
        remember(server)
        _wait_until_warm(server, process, say, timeout_seconds)
    except BaseException:
        stop_server(server)
        raise
    return server


def server_flags(plan: ServerPlan, model: str, folder: Path, port: int) -> list[str]:
    """SGLang's flags for ``plan``."""
    flags = ["--model-path", str(folder), "--served-model-name", model, "--host", plan.host, "--port", str(port)]
    flags += ["--dtype", plan.dtype, "--enable-lora", "--max-lora-rank", str(plan.lora_rank)]
    flags += ["--lora-target-modules", *LORA_LAYERS]
    flags += ["--constrained-json-disable-any-whitespace"]  # else blanks may go on until the last token
    flags += ["--incremental-streaming-output"]  # else every event of a stream tells the whole answer so far
    if plan.device == "cpu":
        flags += ["--device", "cpu", "--attention-backend", "torch_native", "--lora-backend", "torch_native"]
        flags += ["--disable-overlap-schedule", "--sleep-on-idle"]
        flags += ["--max-total-tokens", "16384", "--max-running-requests", "32", "--max-loras-per-batch", "3"]
    else:
        flags += ["--max-loras-per-batch", "8"]
    return [*flags, *plan.extra]


def stop_server(server: KnownServer) -> bool:
    """Stop it and the processes that it started. False where it had ended already. Its process is asked first, and
    killed where it does not go."""
    alive = server.alive
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not server.alive:
            break
        # It leads a group of its own, so the group is its processes and nobody else's.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(server.pid, number)
        _wait_until_gone(server)
    if alive:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(server.pid, signal.SIGKILL)  # what it started may outlive it
        _wait_until_group_is_gone(server.pid)
    forget(server)
    return alive


def find_server(named: str) -> KnownServer:
    """By URL, port or model. Raises: ConfigError if there is none, or several."""
    servers = known_servers()
    found = [one for one in servers if named in (one.url, one.url.rpartition(":")[2], one.model)]
    if len(found) != 1:
        problem = f"no server `{named}` that was started here" if not found else f"{len(found)} servers of `{named}`"
        running = ", ".join(one.url for one in servers) or "none"
        raise ConfigError(f"There is {problem}." if not found else f"There are {problem}.", hint=f"running: {running}")
    return found[0]


def free_port(host: str, asked: int | None) -> int:
    """``asked``, or the first free one. Raises: ConfigError."""
    for port in (asked,) if asked is not None else range(FIRST_PORT, LAST_PORT + 1):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
        except OSError as error:
            if asked is not None:
                raise ConfigError(
                    f"Port {port} of {host} cannot be used: {error.strerror or error}.", hint="give another --port"
                ) from None
            continue
        return port
    raise ConfigError(f"No port from {FIRST_PORT} to {LAST_PORT} is free.", hint="give one: --port")


def _wait_until_warm(server: KnownServer, process: subprocess.Popen[bytes], say: Say, timeout_seconds: float) -> None:
    log = Path(server.log)
    until = time.monotonic() + timeout_seconds
    while not is_healthy(server.url):
        code = process.poll()
        if code is not None:
            raise EngineUnavailable(
                f"SGLang ended with {code} before it was warm:\n{last_lines(log)}", hint=f"the whole log: {log}"
            )
        if time.monotonic() > until:
            raise EngineUnavailable(
                f"SGLang was not warm after {timeout_seconds:.0f} s:\n{last_lines(log)}",
                hint=f"give it longer with --timeout; the whole log: {log}",
            )
        say(_stage(log))
        time.sleep(LOOK_SECONDS)


def _stage(log: Path) -> str:
    """What the server is at, from what it logged last."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    for mark, stage in (
        ("Uvicorn running", "warming up"),
        ("KV Cache is allocated", "starting the server"),
        ("Load weight end", "making room for key-values"),
        ("Load weight begin", "loading the weights"),
    ):
        if mark in text:
            return stage
    return "starting SGLang"


def _wait_until_gone(server: KnownServer) -> None:
    until = time.monotonic() + STOP_SECONDS
    while server.alive and time.monotonic() < until:
        with contextlib.suppress(ChildProcessError, OSError):
            os.waitpid(server.pid, os.WNOHANG)
        time.sleep(0.1)


def _wait_until_group_is_gone(leader: int) -> None:
    """Until what the server started has ended too: its port and its memory are free then."""
    until = time.monotonic() + STOP_SECONDS
    while _group_lives(leader) and time.monotonic() < until:
        time.sleep(0.1)


def _group_lives(leader: int) -> bool:
    if not Path("/proc/self/stat").exists():
        try:
            os.killpg(leader, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue  # it has ended meanwhile
        if int(group) == leader and state not in ("Z", "X"):
            return True
    return False
