"""A program that searches in a loop, with the bound of the loop and the `k` of the retrieval as counts to be tuned."""

from __future__ import annotations

from pathlib import Path

from lmgraph.program import Program
from support.scripted import program_from, write_rows

COUNTS = "[Search.hop.bound, Search.found.k]"

SEARCH = """
edition 1

record Page {
  title: str
}

record Question {
  question: str
  title: str
}

retriever wiki(query: str, k: int = 5) -> list[Page] = py "pages:wiki" {
  returns_at_most: k
}

module Next(question: str, known: list[str]) -> (query: "a" | "b" | "c") {
  \"\"\"What to search for next?\"\"\"
  max_tokens: 16
}

flow Search(question: str) -> (titles: list[str]) {
  var titles: list[str] = []
  repeat max 3 as hop {
    plan = Next(question, known=titles)
    found = wiki(query=plan.query, k=4)
    titles := titles + [p.title for p in found]
  }
  return (titles)
}

dataset questions: Question = jsonl "questions.jsonl" {
  split: { train: 12, dev: 4 }
}

metric right(gold: Question, pred: Search.out) -> bool = gold.title in pred.titles

objective good {
  flow: Search
  data: questions
  metric: right
  range: [0, 1]
  optimize: [Search.hop.bound, Search.found.k]
}
"""

PAGES = """
def wiki(query: str, k: int = 5) -> list[dict[str, str]]:
    return [{"title": f"{query}{number}"} for number in range(k)]
"""


def search_program(folder: Path, text: str = SEARCH, *, title: str = "a0") -> Program:
    """The program in ``folder``; each row is answered where ``title`` is found."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pages.py").write_text(PAGES, encoding="utf-8")
    write_rows(folder / "questions.jsonl", [{"question": f"number {n}?", "title": title} for n in range(16)])
    return program_from(folder, text)


def next_query(prompt: str) -> str:
    """Search for a, then for b, then for c."""
    return "c" if "b0" in prompt else "b" if "a0" in prompt else "a"
