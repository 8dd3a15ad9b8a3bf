"""Programs of any length with every construct of the language, for measuring and for tests of the whole compiler.

`many_parts` is what a large program looks like: many records, modules and flows of a usual size. `one_flow` is one
flow that is as long as the whole program, for what grows with the length of a body.
"""

from __future__ import annotations

_PART = '''
# Part @: tickets that people write, what they are about, and what is done about them.

enum Topic@ {
  billing "money: an invoice, a refund, a price"
  delivery = "late delivery" "a parcel that has not come"
  other
}

record Passage@ {
  title: str "the title of the page"
  text: str
  score: float = 0.0 where 0.0 <= it <= 1.0
}

record Ticket@ {
  """A message and what should come of it."""
  text: str "what the person wrote"
  name: private str
  topic: Topic@
  parts: list[str] = [] where len(it) <= 8
  urgency: "low" | "high" = "low"
  known: map[str, int]
  answer: str?
}

lm writer@ {
  model: "Qwen/Qwen3-1.7B"
  engine: sglang
  temperature: 0.0
  clearance: private
}

retriever search@(query: str, k: int = 5) -> list[Passage@] = py "tools:search" {
  cache: forever
  returns_at_most: k
}
fn distinct@(passages: list[Passage@], most: int = 8) -> list[Passage@] = py "tools:distinct"
fn share@(answer: str, text: str) -> float = py "tools:share"
tool notify@(text: str, to: str = "desk") -> (id: str, sent: bool) = py "tools:notify" { timeout: 2.5 }

module Split@(text: str "the message") -> (parts: list[str] "each problem by itself" where len(it) <= 8) {
  """
  List the problems that the message raises.
  Use the words of the message.
  """
  lm: writer@
  max_tokens: 96
  retries: 2
  assert len(parts) > 0 else "name at least one problem"
}

module Sort@(part: str, known: list[str]) -> (topic: Topic@, confidence: float where 0.0 <= it <= 1.0) {
  """What is this problem about?"""
  strategy: cot
  max_tokens: 128
  check confidence > 0.5 or topic == Topic@.other else "sorted with low confidence"
}

module SortLast@ = Sort@ { max_tokens: 256  temperature: 0.3 }

module Answer@(text: str, passages: list[Passage@], hurry: bool = false) -> (answer: str, sure: bool) {
  """Answer from the passages alone."""
  strategy: best_of
  samples: 3
  select: share@
}

module Research@(question: str) -> (finding: str, sources: list[str]) {
  """Find out what the question asks."""
  strategy: react
  tools: [search@, notify@]
  max_steps: 3
  optimize: false
}

module Judge@(answer: str, wanted: str) -> (good: bool) { """Does the answer say what is wanted?""" max_tokens: 4 }

flow Gather@(text: str, most: int = 3) -> (passages: list[Passage@], notes: list[str]) {
  var notes: list[str] = []
  var passages: list[Passage@] = []
  var last: str? = null
  repeat max 4 as hop {
    query = if last != null then text + " " + last else text
    found = search@(query, k=most + hop)
    stop if len(found) == 0
    titles = [p.title for p in found if p.score >= 0.25 and p.title not in notes]
    if len(titles) > 0 and titles[0] != text {
      notes := notes + titles
      last := titles[0]
    } else if hop > 1 {
      last := null
    }
    passages := distinct@(passages=passages + found, most=12)
  }
  check 0 < len(passages) <= 12 else "between one and twelve passages"
  return (passages, notes)
}

flow Help@(text: str, name: private str) -> (topic: Topic@, answer: str, parts: list[str], count: int) {
  """Sorts the message, gathers what is known, and answers."""
  split = Split@(text)
  sorted = [Sort@(part, known=split.parts).topic for part in split.parts]
  lengths = [[len(word) for word in [part, text]] for part in split.parts]
  first = if len(sorted) > 0 then sorted[0] else SortLast@(part=text, known=[]).topic
  if first == Topic@.other and not (len(text) > 200 or text == "") {
    return (topic=first, answer="", parts=[], count=0)
  }
  gathered = Gather@(text, most=2)
  seen = Passage@(title=text, text="the message itself", score=1)
  release caller = if len(name) > 0 then "a person" else "nobody" because "only says whether a name was given"
  reply = Answer@(text=text + caller, passages=gathered.passages + [seen]) catch Answer@(text, passages=[], hurry=true)
  var answer: str = reply.answer
  var count: int = 1 * 2 - 3 * 0 + len(lengths)
  if not reply.sure {
    found = Research@(question=text)
    answer := answer + " " + found.finding
    count := count + len(found.sources)
    repeat max 2 {
      again = Judge@(answer, wanted=text)
      stop if again.good
      answer := Answer@(text=answer, passages=gathered.passages).answer
    }
    sent = notify@(text=answer)
    assert sent.sent else "nobody was told"
  }
  return (topic=first, answer, parts=split.parts, count)
}

dataset tickets@: Ticket@ = jsonl "data/tickets.jsonl" {
  split: { train: 0.6, dev: 0.2, test: 0.2 }
  seed: @
}

metric right@(gold: Ticket@, pred: Help@.out) -> bool = gold.topic == pred.topic and pred.count >= 0
metric liked@(gold: Ticket@, pred: Help@.out) -> float =
  if gold.answer != null and Judge@(answer=pred.answer, wanted=gold.answer).good then 1.0 else -0.5
metric quick@(gold: Ticket@, pred: Help@.trace) -> float = 1.0 / (1 + pred.calls)
metric kept@(gold: Ticket@, pred: Help@.out) -> float = py "metrics:kept"

objective help@ {
  flow: Help@
  data: tickets@
  metric: [right@, liked@, quick@, kept@]
  weights: [0.4, 0.3, 0.2, 0.1]
  range: [-1, 1]
  optimize: [Split@.instruction, Sort@.demos, SortLast@.weights]
  judge: writer@
}

moved Divide@ -> Split@

test "part @ sends other messages nowhere" {
  stub Split@ -> (parts=["hello"])
  stub Sort@ -> (topic=Topic@.other, confidence=0.9), (topic=Topic@.billing, confidence=0.8)
  stub search@ -> ([Passage@(title="A", text="B", score=0.5)]), ([])
  out = Help@(text="hello", name="Ada")
  assert out.topic == Topic@.other else "other is sorted first"
  assert out.answer == "" and out.count == 0 else "nothing is answered"
}
'''

_STEP = """  found@ = Read(text=note + " @", seen=[])
  kind@ = if found@.sure then found@.kind else Kind.none
  if kind@ != Kind.none and count < @ {
    count := count + 1
    note := found@.text
  }
"""

_ONE_FLOW = '''edition 1

enum Kind { some  none }

module Read(text: str, seen: list[str]) -> (text: str, kind: Kind, sure: bool) { """Read the text.""" }

flow Long(text: str) -> (note: str, count: int) {
  var note: str = text
  var count: int = 0
%s  return (note, count)
}
'''


def many_parts(lines: int) -> str:
    """A program of about ``lines`` lines, in which everything is used."""
    count = max(1, round(lines / _PART.count("\n")))
    return "edition 1\n" + "".join(_PART.replace("@", str(number)) for number in range(1, count + 1))


def one_flow(lines: int) -> str:
    """A program of about ``lines`` lines, nearly all of which are the body of one flow."""
    count = max(1, round(lines / _STEP.count("\n")))
    return _ONE_FLOW % "".join(_STEP.replace("@", str(number)) for number in range(1, count + 1))
