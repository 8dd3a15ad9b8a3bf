"""Programs to break the compiler with: real ones, changed by bytes, characters, tokens, lines, blocks and tree nodes.

A mutant follows from a seed and its number. Most are refused, as they should be; the compiler must say why in words.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from lmgraph.source import Source
from lmgraph.syntax.parser import parse
from support.odd_parts import CHARACTERS, NAMES, NUMBERS, WRAPPERS, grammar_words
from support.real_programs import blocks_of, declarations_of, nodes_of, real_programs, tokens_of

_NUMBER = re.compile(r"\b\d+(?:\.\d+)?\b")
_NAME = re.compile(r"\b[A-Za-z_]\w*\b")

_GENTLE = ("nodes", "nodes", "nodes", "nesting", "names", "numbers", "declarations", "lines")


@dataclass(frozen=True, slots=True)
class Mutant:
    text: str
    root: Path | None
    kinds: tuple[str, ...]
    """What was done to it, in order."""


class Mutator:
    """Changes programs; what it inserts comes from the grammar and from the other programs."""

    def __init__(self) -> None:
        self.programs = real_programs()
        self._parsing = [one for one in self.programs if parse(Source("", one.text)).ok]
        self._words = grammar_words()
        self._kinds: dict[str, Callable[[str, Random], str]] = {
            "nodes": self._nodes,
            "nesting": self._nesting,
            "bytes": self._bytes,
            "characters": self._characters,
            "tokens": self._tokens,
            "names": self._names,
            "numbers": self._numbers,
            "lines": self._lines,
            "blocks": self._blocks,
            "declarations": self._declarations,
            "splice": self._splice,
            "repetition": self._repetition,
        }

    def mutant(self, seed: int, number: int) -> Mutant:
        chance = Random(f"{seed}/{number}")
        # Most changes end in a syntax error, and the rest of the compiler is to be tried too.
        rough = chance.randrange(3) == 0
        program = chance.choice(self.programs if rough else self._parsing)
        text, kinds = program.text, []
        for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
            text, kind = self.changed(text, chance, rough=rough)
            kinds.append(kind)
        return Mutant(text, chance.choice((program.root, program.root, None)), tuple(kinds))

    def changed(self, text: str, chance: Random, *, rough: bool) -> tuple[str, str]:
        """The text with one change, and the kind of it. ``rough`` changes mostly end in a syntax error."""
        kind = chance.choice(sorted(self._kinds) if rough else _GENTLE)
        return self._kinds[kind](text, chance), kind

    # -- kinds of change ---------------------------------------------------------------------------------------------

    def _nodes(self, text: str, chance: Random) -> str:
        """A node of the tree for one of the same sort, from here or from another program; or doubled, or left out."""
        places = nodes_of(text)
        if not places:
            return self._tokens(text, chance)
        sort, start, end = chance.choice(places)
        here = text[start:end]
        donor = chance.choice((text, chance.choice(self.programs).text))
        alike = [donor[one:last] for other, one, last in nodes_of(donor) if other == sort] or [here]
        match chance.randrange(8):
            case 0:
                here = ""
            case 1:
                here = f"{here} {chance.choice(alike)}"
            case 2 if sort == "expression":
                sign = chance.choice(("+", "-", "*", "/", "==", "<", "in", "not in", "and", "or", "catch", "."))
                here = f"({here}) {sign} {chance.choice(alike)}"
            case 3 if sort == "expression":
                here = f"if {chance.choice(alike)} then {here} else {chance.choice(alike)}"
            case _:
                here = chance.choice(alike)
        return text[:start] + here + text[end:]

    def _nesting(self, text: str, chance: Random) -> str:
        """A node inside many of one construct: what recurses, and what looks at its parts twice at every level."""
        places = [place for place in nodes_of(text) if place[0] in WRAPPERS]
        if not places:
            return text
        sort, start, end = chance.choice(places)
        here, wrapper = text[start:end], chance.choice(WRAPPERS[sort])
        times = (
            chance.choice((1, 2, 3)) if wrapper.count("@") > 1 else chance.choice((1, 2, 5, 12, 24, 31, 62, 127, 200))
        )
        for _ in range(times):
            here = wrapper.replace("@", here)
        return text[:start] + here + text[end:]

    def _bytes(self, text: str, chance: Random) -> str:
        data = bytearray(text.encode("utf-8", "surrogatepass"))
        for _ in range(chance.randint(1, 4)):
            at = chance.randint(0, len(data))
            match chance.randrange(3):
                case 0:
                    data[at : at + 1] = bytes([chance.randrange(256)])
                case 1:
                    data[at:at] = chance.randbytes(chance.randint(1, 3))
                case _:
                    del data[at : at + chance.randint(1, 8)]
        return data.decode("utf-8", chance.choice(("replace", "ignore", "surrogateescape")))

    def _characters(self, text: str, chance: Random) -> str:
        for _ in range(chance.randint(1, 4)):
            at = chance.randint(0, len(text))
            cut = chance.choice((0, 0, 1))
            text = text[:at] + chance.choice(CHARACTERS) + text[at + cut :]
        return text

    def _tokens(self, text: str, chance: Random) -> str:
        tokens = tokens_of(text) or [" "]
        solid = [at for at, token in enumerate(tokens) if not token.isspace()] or [0]
        for _ in range(chance.randint(1, 3)):
            at, other = chance.choice(solid), chance.choice(solid)
            match chance.randrange(5):
                case 0:
                    tokens[at] = " "
                case 1:
                    tokens[at] += f" {tokens[at]}"
                case 2:
                    tokens[at], tokens[other] = tokens[other], tokens[at]
                case 3:
                    tokens[at] = tokens[other]
                case _:
                    tokens[at] = chance.choice(self._words)
        return "".join(tokens)

    def _names(self, text: str, chance: Random) -> str:
        """One name for another, in one place or in all of them."""
        found = [*_NAME.finditer(text)]
        if not found:
            return text
        here = chance.choice(found)
        name = chance.choice((chance.choice(found)[0], here[0][:-1] + "x", chance.choice(NAMES)))
        if chance.randrange(2):
            return re.sub(rf"\b{re.escape(here[0])}\b", name, text)
        return text[: here.start()] + name + text[here.end() :]

    def _numbers(self, text: str, chance: Random) -> str:
        found = [*_NUMBER.finditer(text)]
        if not found:
            return text
        here = chance.choice(found)
        return text[: here.start()] + chance.choice(NUMBERS) + text[here.end() :]

    def _lines(self, text: str, chance: Random) -> str:
        lines = text.splitlines(keepends=True) or [""]
        for _ in range(chance.randint(1, 3)):
            at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
            match chance.randrange(5):
                case 0:
                    lines[at] = ""
                case 1:
                    lines[at] *= 2
                case 2:
                    lines[at], lines[other] = lines[other], lines[at]
                case 3:
                    lines.insert(at, lines[other])
                case _:
                    lines[at] = lines[at].rstrip("\n")
        return "".join(lines)

    def _blocks(self, text: str, chance: Random) -> str:
        """A bracket with all that is in it: emptied, doubled, wrapped, or replaced by another one."""
        places = blocks_of(text)
        if not places:
            return text
        start, end = chance.choice(places)
        block = text[start:end]
        alike = [text[one:last] for one, last in places if text[one] == block[0]]
        match chance.randrange(5):
            case 0:
                block = block[0] + block[-1]
            case 1:
                block += block
            case 2:
                block = block[0] + block + block[-1]
            case 3:
                block = chance.choice(alike)
            case _:
                block = block[1:-1]
        return text[:start] + block + text[end:]

    def _declarations(self, text: str, chance: Random) -> str:
        parts = declarations_of(text)
        at, other = chance.randrange(len(parts)), chance.randrange(len(parts))
        match chance.randrange(4):
            case 0:
                parts[at] = ""
            case 1:
                parts[at] += f"\n{parts[at]}"
            case 2:
                parts[at], parts[other] = parts[other], parts[at]
            case _:
                parts.insert(at, chance.choice(declarations_of(chance.choice(self.programs).text)))
        return "".join(parts)

    def _splice(self, text: str, chance: Random) -> str:
        """The beginning of this program and the end of another, or a piece of another in the middle of this one."""
        mine, theirs = tokens_of(text), tokens_of(chance.choice(self.programs).text)
        at, start = chance.randint(0, len(mine)), chance.randint(0, len(theirs))
        if chance.randrange(2):
            return "".join(mine[:at] + theirs[start:])
        return "".join(mine[:at] + theirs[start : start + chance.randint(1, 40)] + mine[at:])

    def _repetition(self, text: str, chance: Random) -> str:
        """A run of tokens many times over: what is long and what is deep."""
        tokens = tokens_of(text)
        start = chance.randint(0, len(tokens))
        end = start + chance.randint(1, 12)
        times = chance.choice((2, 3, 10, 40, 130, 300))
        if chance.randrange(2):
            return "".join(tokens[:start] + tokens[start:end] * times + tokens[end:])
        opening, closing = chance.choice(("()", "[]", "{}", ("not ", ""), ("-", ""), ("", "?"), ("if true { ", " }")))
        inner = "".join(tokens[start:end])
        return "".join(tokens[:start]) + opening * times + inner + closing * times + "".join(tokens[end:])
