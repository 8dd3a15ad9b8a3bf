"""SGLang servers that were started on this machine: one small file each under lmgraph's own folder."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

from lmgraph.engines.home import lmgraph_home
from lmgraph.errors import ConfigError

API_KEY_VARIABLE = "LMGRAPH_SGLANG_API_KEY"
ADMIN_KEY_VARIABLE = "LMGRAPH_SGLANG_ADMIN_KEY"
HEALTH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class KnownServer:
    """A server that `lmgraph engine up` started."""

    url: str
    model: str
    folder: str
    device: str
    dtype: str
    pid: int
    born: str
    """When its process started, as the system says it: ids of processes are used again."""
    log: str

    @property
    def alive(self) -> bool:
        return bool(self.born) and process_birth(self.pid) == self.born

    @property
    def file(self) -> Path:
        return servers_folder() / f"{self.url.rpartition(':')[2]}.json"


def servers_folder() -> Path:
    return lmgraph_home() / "engines"


def known_servers() -> list[KnownServer]:
    """Servers whose process is alive, by port; files of others are removed."""
    found: list[KnownServer] = []
    for path in sorted(servers_folder().glob("*.json")):
        try:
            server = KnownServer(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            continue
        if server.alive:
            found.append(server)
        else:
            with contextlib.suppress(OSError):
                path.unlink()
    return found


def known_urls(model: str) -> tuple[str, ...]:
    """The servers that were started here for ``model``; for any model where it is empty and all serve the same."""
    servers = known_servers()
    folder = str(Path(model).expanduser().resolve()) if model else ""
    if not model and len({server.model for server in servers}) > 1:
        return ()
    return tuple(server.url for server in servers if not model or server.model == model or server.folder == folder)


def remember(server: KnownServer) -> None:
    """Raises: ConfigError if it cannot be written."""
    try:
        servers_folder().mkdir(parents=True, exist_ok=True)
        staging = server.file.with_suffix(".partial")
        staging.write_text(json.dumps(asdict(server), indent=2), encoding="utf-8")
        staging.replace(server.file)
    except OSError as error:
        raise ConfigError(f"{server.file} cannot be written: {error.strerror or error}.") from error


def forget(server: KnownServer) -> None:
    with contextlib.suppress(OSError):
        server.file.unlink()


def is_healthy(url: str) -> bool:
    """Whether the server at ``url`` says that it is warm."""
    key = os.environ.get(API_KEY_VARIABLE, "")
    request = urllib.request.Request(f"{url}/health", headers={"Authorization": f"Bearer {key}"} if key else {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=HEALTH_SECONDS) as response:
            return bool(response.status == 200)
    except (OSError, ValueError):
        return False


def process_birth(pid: int) -> str:
    """When process ``pid`` started, empty where there is none or it has ended."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] in ("Z", "X") else fields[19]
    try:
        told = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return told.stdout.strip()


def ways_out(model: str) -> str:
    """What a person can do where no server answers."""
    return (
        f"start one: `lmgraph engine up --model {model or 'MODEL'}`; or give a URL: --lm NAME=sglang:http://HOST:PORT;"
        " or run the model in this process: --engine local"
    )
