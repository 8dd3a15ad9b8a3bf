"""Write lmg.tables.json anew from lmg.lark: `python -m lmgraph_grammar.build`.

With `--check` it only says whether the file is stale.

The tables are put into one canonical order first, so that equal grammars give equal files on every machine.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from lmgraph.syntax.parser import build_tables
from lmgraph_grammar import TABLES


def tables_json() -> str:
    """The text of lmg.tables.json for the present grammar: one parser state a line, so that changes read well."""
    tables = canonical(build_tables())
    states = tables["data"]["parser"]["parser"].pop("states")
    head = json.dumps(tables, separators=(",", ":"), sort_keys=True)
    lines = [f'"{number}":{json.dumps(actions, separators=(",", ":"))}' for number, actions in states.items()]
    return f'{head[:-1]},"states":{{\n' + ",\n".join(lines) + "\n}}\n"


def canonical(tables: dict[str, Any]) -> dict[str, Any]:
    """``tables`` with states numbered from the start state onward, and rules and tokens in alphabetical order."""
    data, memo = tables["data"], tables["memo"]
    ordered = sorted(memo, key=lambda key: json.dumps(memo[key], sort_keys=True))
    new_key = {old: new for new, old in enumerate(ordered)}
    data = _renumber_references(data, new_key)

    parser = data["parser"]["parser"]
    names: dict[int, str] = parser["tokens"]
    number_of = {name: number for number, name in enumerate(sorted(names.values()))}
    by_name = {
        state: sorted((names[token], action) for token, action in actions.items())
        for state, actions in parser["states"].items()
    }
    start = parser["start_states"]["start"]
    order = {start: 0}
    queue = [start]
    for state in queue:
        for _, (kind, target) in by_name[state]:
            if kind == 0 and target not in order:
                order[target] = len(order)
                queue.append(target)
    parser["states"] = {
        order[state]: {
            str(number_of[name]): [kind, order[target] if kind == 0 else target]
            for name, (kind, target) in by_name[state]
        }
        for state in queue
    }
    parser["tokens"] = {str(number): name for name, number in number_of.items()}
    for key in ("start_states", "end_states"):
        parser[key] = {name: order[state] for name, state in parser[key].items()}
    data["parser"]["lexer_conf"]["terminals"].sort(key=lambda reference: reference["@"])
    memo_in_order = {str(new_key[old]): memo[old] for old in ordered}
    return {**tables, "data": data, "memo": memo_in_order}


def _renumber_references(value: Any, new_key: dict[int, int]) -> Any:
    if isinstance(value, dict):
        if set(value) == {"@"}:
            return {"@": new_key[value["@"]]}
        return {key: _renumber_references(item, new_key) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_renumber_references(item, new_key) for item in value]
    return value


def main(arguments: list[str]) -> int:
    target = Path(__file__).with_name(TABLES)
    text = tables_json()
    if "--check" in arguments:
        fresh = target.is_file() and target.read_text(encoding="utf-8") == text
        print(f"{TABLES} is {'fresh' if fresh else 'stale: run python -m lmgraph_grammar.build'}")
        return 0 if fresh else 1
    target.write_text(text, encoding="utf-8")
    print(f"wrote {TABLES}: {len(text):,} characters")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
