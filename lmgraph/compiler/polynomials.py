"""Polynomials with whole coefficients from 0 up over lengths of lists: what bounds are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Monomial = tuple[str, ...]
"""Symbols in alphabetical order, one as often as it is multiplied; () for a number alone."""


@dataclass(frozen=True, slots=True)
class Polynomial:
    terms: tuple[tuple[Monomial, int], ...] = ()
    """Ordered by monomial, without zeros."""

    def __add__(self, other: Polynomial) -> Polynomial:
        terms = dict(self.terms)
        for monomial, number in other.terms:
            terms[monomial] = terms.get(monomial, 0) + number
        return _of(terms)

    def __mul__(self, other: Polynomial) -> Polynomial:
        terms: dict[Monomial, int] = {}
        for one, first in self.terms:
            for two, second in other.terms:
                product = tuple(sorted((*one, *two)))
                terms[product] = terms.get(product, 0) + first * second
        return _of(terms)

    def at_most(self, other: Polynomial) -> Polynomial:
        """A polynomial that neither of the two exceeds: lengths are never below 0."""
        terms = dict(self.terms)
        for monomial, number in other.terms:
            terms[monomial] = max(terms.get(monomial, 0), number)
        return _of(terms)

    def with_values(self, values: Mapping[str, Polynomial]) -> Polynomial:
        """The polynomial with others in place of some of its symbols."""
        if not any(symbol in values for monomial, _ in self.terms for symbol in monomial):
            return self
        total = ZERO
        for monomial, coefficient in self.terms:
            product = number(coefficient)
            for one in monomial:
                product = product * values.get(one, symbol(one))
            total = total + product
        return total

    def value(self, lengths: Mapping[str, int]) -> int:
        """The number that it is for these lengths. Raises: KeyError for a symbol without one."""
        total = 0
        for monomial, coefficient in self.terms:
            for one in monomial:
                coefficient *= lengths[one]
            total += coefficient
        return total

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(sorted({one for monomial, _ in self.terms for one in monomial}))

    def __str__(self) -> str:
        """As in `3 + 2·|claims|·|pages|`."""
        if not self.terms:
            return "0"
        return " + ".join(_term(monomial, coefficient) for monomial, coefficient in self.terms)


ZERO = Polynomial()


def number(value: int) -> Polynomial:
    return _of({(): value})


def symbol(name: str) -> Polynomial:
    return Polynomial((((name,), 1),))


def _of(terms: Mapping[Monomial, int]) -> Polynomial:
    return Polynomial(tuple(sorted((one, value) for one, value in terms.items() if value)))


def _term(monomial: Monomial, coefficient: int) -> str:
    lengths = [f"|{one}|" for one in monomial]
    return "·".join([*([f"{coefficient:,}"] if coefficient > 1 or not lengths else []), *lengths])
