"""The model that a server serves, as it lies on this machine: its name, folder, tokenizer and stop tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lmgraph.engines.local.model_folder import read_record
from lmgraph.engines.local.supply import folder_name, is_folder_spec, resolve
from lmgraph.engines.local.tokenizer import LocalTokenizer
from lmgraph.engines.sglang.handshake import ServerFacts
from lmgraph.errors import ConfigError, EngineUnavailable


@dataclass(frozen=True, slots=True)
class ServedModel:
    model_id: str
    folder: Path
    tokenizer: LocalTokenizer
    vocabulary_size: int
    stop_token_ids: tuple[int, ...]


def find_model(asked: str, facts: ServerFacts, url: str) -> ServedModel:
    """``asked`` is the model that was named, or empty for whatever is served.

    Raises: ConfigError if another model is served; EngineUnavailable if its tokenizer is not on this machine.
    """
    if asked:
        folder = resolve(asked)
        model_id = folder.name if is_folder_spec(asked) else asked
        check_served(model_id, folder, facts, url)
    else:
        folder = _served_folder(facts, url)
        record = read_record(folder)
        model_id = record.name if record is not None else folder.name
    tokenizer = LocalTokenizer(folder)
    configs = [_json(folder / "generation_config.json"), _json(folder / "config.json")]
    sizes = [size for config in configs if isinstance(size := config.get("vocab_size"), int)]
    vocabulary = max([tokenizer.vocabulary_size, *sizes])
    stops: list[int] = []
    for config in configs:
        value = config.get("eos_token_id")
        values = value if isinstance(value, list) else [value]
        stops += [stop for stop in values if isinstance(stop, int)]
    known = dict.fromkeys(stop for stop in (*stops, *tokenizer.end_token_ids) if 0 <= stop < vocabulary)
    return ServedModel(model_id, folder, tokenizer, vocabulary, tuple(known))


def check_served(model_id: str, folder: Path, facts: ServerFacts, url: str) -> None:
    """Raises: ConfigError if what the server serves goes by another name and lies in another folder."""
    served = Path(facts.model_path).expanduser()
    names = {facts.served_name, facts.model_path, served.name}
    if not names & {model_id, folder_name(model_id)} and served.resolve() != folder.resolve():
        raise ConfigError(
            f"The server at {url} serves {facts.served_name}, and {model_id} was asked for.",
            hint=f"bind to what it serves, or start one: `lmgraph engine up --model {model_id}`",
        )


def _served_folder(facts: ServerFacts, url: str) -> Path:
    """Where what the server serves lies here: the same path, where it shares our disk, or a model of that name."""
    for place in (facts.tokenizer_path, facts.model_path, facts.served_name):
        path = Path(place).expanduser()
        if path.is_absolute() and (path / "tokenizer.json").is_file():
            return path.resolve()
        try:
            return resolve(place)
        except (EngineUnavailable, ConfigError):
            continue
    raise EngineUnavailable(
        f"The tokenizer of {facts.served_name}, which {url} serves, is not on this machine.",
        hint=f"`lmgraph model pull {facts.served_name}`, or name the model: --lm NAME=sglang:MODEL@{url}",
    )


def _json(path: Path) -> dict[str, object]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
