"""A double of an SGLang server: its wire format and its bookkeeping of adapters, with made-up tokens.

It stands in for the client's sake alone: what a real server does is shown against a real one. As a script it runs in a
process of its own: python tests/support/sglang_double.py MODEL_FOLDER SECONDS_A_CALL, which prints its port.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from lmgraph.engines.local.tokenizer import LocalTokenizer
from lmgraph.runtime.engine import JsonSchema
from lmgraph.testing.held import held_to
from support.http_double import HttpDouble, Request, Response

CONTEXT_TOKENS = 512
Change = Callable[[Request, Response], Awaitable[Response | None]]


class SglangDouble(HttpDouble):
    """``text`` is what it says; ``change`` may look at each answer to `/generate` and give another."""

    def __init__(
        self, folder: Path, *, text: str = "the label", seconds: float = 0.0, port: int = 0, tokenizer: Any = None
    ) -> None:
        super().__init__(self._handle, port)
        self.folder = folder
        self.tokenizer = tokenizer or LocalTokenizer(folder)
        self.text = text
        self.seconds = seconds
        self.change: Change | None = None
        self.info: dict[str, Any] = {"version": "0.5.23", "enable_lora": True, "max_req_input_len": CONTEXT_TOKENS - 6}
        self.served_name = folder.name
        self.key: str | None = None
        self.registered: dict[str, str] = {}
        self.remembered: dict[str, str] = {}
        self.incremental = True
        """Whether events of a stream tell what is new, as with `--incremental-streaming-output`."""
        self.tokens_an_event = 1
        self.breaks_after: int | None = None
        """Events of a stream, after which the connection breaks."""
        self.hangs_after: int | None = None
        """The same, and nothing more comes."""
        self.aborted: list[str] = []

    def restart(self) -> None:
        """As a process that was killed and started anew: all that it had in memory is gone."""
        self.stop()
        self.registered.clear()
        self.remembered.clear()
        self.start()

    async def _handle(self, request: Request) -> Response | None:
        if self.key is not None and request.headers.get("authorization") != f"Bearer {self.key}":
            return Response({"error": "Unauthorized"}, 401)
        match request.path:
            case "/model_info":
                path = str(self.folder)
                return Response({"model_path": path, "tokenizer_path": path, "served_model_name": self.served_name})
            case "/server_info":
                return Response(self.info)
            case "/v1/models":
                return Response({"data": [{"id": self.served_name, "max_model_len": CONTEXT_TOKENS}]})
            case "/tokenize":
                tokens = [self.tokenizer.encode_template(text) for text in request.body["prompt"]]
                return Response({"tokens": tokens, "count": [len(ids) for ids in tokens], "max_model_len": 512})
            case "/health_generate" | "/health":
                return Response(None, raw=b"")
            case "/abort_request":
                self.aborted.append(request.body["rid"])
                return Response(None, raw=b"")
            case "/load_lora_adapter":
                return self._load(request.body)
            case "/unload_lora_adapter":
                known = self.registered.pop(request.body["lora_name"], None) is not None
                return Response({"success": known, "error_message": "unknown"}, 200 if known else 400)
            case "/generate":
                return await self._generate(request)
        return Response({"detail": "Not Found"}, 404)

    def _load(self, body: dict[str, Any]) -> Response:
        name, path = body["lora_name"], body["lora_path"]
        if name in self.registered:
            return Response({"success": False, "error_message": f"LoRA with name {name} already exists."}, 400)
        if not (Path(path) / "adapter_model.safetensors").is_file():
            return Response({"success": False, "error_message": f"{path} has no weights"}, 400)
        self.registered[name] = self.remembered[name] = path
        return Response({"success": True, "loaded_adapters": self.registered})

    async def _generate(self, request: Request) -> Response | None:
        if self.seconds:
            await asyncio.sleep(self.seconds)
        response: Response | None = self._answer(request.body)
        assert response is not None
        if self.change is not None:
            response = await self.change(request, response)
        return self._streamed(response) if request.body["stream"] and response is not None else response

    def _streamed(self, response: Response) -> Response:
        """The answer as 0.5.23 streams it: what is refused is an event too, under a status that is good."""
        if response.raw is not None:
            return response
        body = response.body
        if response.status == 400:
            error = {"type": "invalid_request_error", "code": 400, "retryable": False}
            events: list[Any] = [{"error": {**body["error"], **error}}]
        else:
            events = list(self._events(body))
        data = [f"data: {json.dumps(event)}\n\n" for event in events]
        whole = "".join([*data, "data: [DONE]\n\n"]).encode()
        headers = {"Content-Type": "text/event-stream; charset=utf-8", "Content-Length": str(len(whole))}
        sent = self.breaks_after if self.breaks_after is not None else self.hangs_after
        raw = whole if sent is None else "".join(data[:sent]).encode()
        return Response(headers=headers, raw=raw, then_reset=self.breaks_after is not None)

    def _events(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        ids, meta = body["output_ids"], body["meta_info"]
        start = 0
        while start < len(ids):
            end = min(len(ids), start + self.tokens_an_event)
            first = start if self.incremental else 0
            sampled = meta["output_token_logprobs"][first:end]
            so_far = {"completion_tokens": end, "output_token_logprobs": sampled, "output_token_logprobs_length": end}
            if end < len(ids):
                so_far["finish_reason"] = None
            text = self.tokenizer.decode(ids[first:end])
            yield {"text": text, "output_ids": ids[first:end], "meta_info": {**meta, **so_far}}
            start = end

    def _answer(self, body: dict[str, Any]) -> Response:
        params, prompt = body["sampling_params"], body["input_ids"]
        adapter = body.get("lora_path")
        if adapter is not None and adapter not in self.registered:
            if adapter not in self.remembered:
                message = f"Got LoRA adapter that has never been loaded: {adapter}\nAll loaded adapters: []."
                return Response({"error": {"message": message}}, 400)
            self.registered[adapter] = self.remembered[adapter]
        if len(prompt) + params["max_new_tokens"] > CONTEXT_TOKENS:
            message = f"Requested token count exceeds the model's maximum context length of {CONTEXT_TOKENS} tokens."
            return Response({"error": {"message": message}}, 400)
        ids = self.tokenizer.encode(_held(self.text, params))
        stops = params.get("stop_token_ids")
        finish: dict[str, Any] = {"type": "length", "length": params["max_new_tokens"]}
        if stops and len(ids) < params["max_new_tokens"]:
            ids.append(stops[0])
            finish = {"type": "stop", "matched": stops[0]}
        ids = (ids * 40)[: params["max_new_tokens"]] if finish["type"] == "length" else ids
        chance = random.Random(json.dumps([prompt, adapter, params.get("sampling_seed")]))
        sampled = [[-chance.random(), token, None] for token in ids]
        meta = {
            "id": body["rid"],
            "finish_reason": finish,
            "prompt_tokens": len(prompt),
            "completion_tokens": len(ids),
            "cached_tokens": len(prompt) // 2,
            "output_token_logprobs": sampled,
        }
        return Response({"text": self.tokenizer.decode(ids), "output_ids": ids, "meta_info": meta})


def _held(text: str, params: dict[str, Any]) -> str:
    if schema := params.get("json_schema"):
        return held_to(text, JsonSchema(schema))
    if pattern := params.get("regex"):
        if re.fullmatch(pattern, text):
            return text
        return re.sub(r"\\(.)", r"\1", str(pattern)[1:-1].split("|")[0])
    return text


def main() -> None:
    double = SglangDouble(Path(sys.argv[1]), seconds=float(sys.argv[2]))
    with double:
        print(double.port, flush=True)
        time.sleep(600)


if __name__ == "__main__":
    main()
