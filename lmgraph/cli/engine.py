"""`lmgraph engine`: start, stop and list SGLang servers on this machine."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from lmgraph.cli.common import JsonFlag, print_json

app = typer.Typer(name="engine", help="Start, stop and list model servers on this machine.", no_args_is_help=True)


class DeviceChoice(StrEnum):
    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class ServerDtype(StrEnum):
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT32 = "float32"


@app.command("up")
def up_command(
    model: Annotated[
        str, typer.Option("--model", help="A pulled model, or a folder.", metavar="MODEL")
    ] = "smollm2-135m",
    device: Annotated[DeviceChoice, typer.Option("--device", help="Where it computes.")] = DeviceChoice.AUTO,
    port: Annotated[int | None, typer.Option("--port", help="Else the first free one from 30000 on.")] = None,
    host: Annotated[
        str, typer.Option("--host", help="The address to listen on; any but this machine's own needs a key.")
    ] = "127.0.0.1",
    dtype: Annotated[ServerDtype, typer.Option("--dtype", help="Number format.")] = ServerDtype.BFLOAT16,
    lora_rank: Annotated[
        int, typer.Option("--lora-rank", min=1, help="The largest rank of adapters that it takes.")
    ] = 16,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds that it may take until it is warm.")
    ] = 900.0,
    flags: Annotated[
        list[str] | None,
        typer.Option("--flag", help="A further flag of SGLang, as --flag=--tp-size=2; may be given several times."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Start an SGLang server, wait until it is warm, and print its URL.

    The first start makes an environment for SGLang, which takes minutes and about 3 GB.
    """
    from lmgraph.cli.progress import Progress
    from lmgraph.engines.sglang.environment import Device
    from lmgraph.engines.sglang.launch import ServerPlan, find_device, start_server

    asked: dict[DeviceChoice, Device] = {DeviceChoice.CPU: "cpu", DeviceChoice.CUDA: "cuda"}
    chosen = asked.get(device) or find_device()
    plan = ServerPlan(model, chosen, host, port, dtype.value, lora_rank, tuple(flags or ()))
    began = time.monotonic()
    with Progress(f"{model} on {chosen}") as progress:
        said: set[str] = set()

        def say(stage: str) -> None:
            progress.status(f"{model} on {chosen}: {stage}", None, important=stage not in said)
            said.add(stage)

        server = start_server(plan, say, timeout_seconds=timeout)
    if as_json:
        print_json({**asdict(server), "seconds": round(time.monotonic() - began, 1)})
        return
    sys.stdout.write(f"{server.url}\n")
    sys.stderr.write(f"use it:  --engine sglang, or --lm NAME=sglang:{server.url}\nstop it: lmgraph engine down\n")


@app.command("down")
def down_command(
    named: Annotated[
        str | None, typer.Argument(help="URL, port or model; needed where there are several.", metavar="SERVER")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Stop all that were started here.")] = False,
) -> None:
    """Stop a server that `lmgraph engine up` started."""
    from lmgraph.engines.sglang.known import known_servers
    from lmgraph.engines.sglang.launch import find_server, stop_server
    from lmgraph.errors import ConfigError

    servers = known_servers()
    if named is not None:
        servers = [find_server(named)]
    elif len(servers) > 1 and not everything:
        raise ConfigError(
            f"There are {len(servers)} servers: {', '.join(server.url for server in servers)}.",
            hint="name one, or give --all",
        )
    for server in servers:
        stop_server(server)
        sys.stdout.write(f"stopped {server.url}\n")
    if not servers:
        sys.stdout.write("No server that was started here is running.\n")


@app.command("list")
def list_command(as_json: JsonFlag = False) -> None:
    """List the servers that were started here and still run."""
    from lmgraph.engines.sglang.known import is_healthy, known_servers

    rows = [{**asdict(server), "healthy": is_healthy(server.url)} for server in known_servers()]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        state = "warm" if row["healthy"] else "not answering"
        sys.stdout.write(f"{row['url']}  {row['model']}  {row['device']} {row['dtype']}  {state}  pid {row['pid']}\n")
    if not rows:
        sys.stdout.write("No server runs. `lmgraph engine up --model smollm2-135m` starts one.\n")
