"""The error hierarchy. Every error says what, where, expected versus got, and the next step.

    LmgraphError
    |- CompileError(diagnostics)        the author's program: every diagnostic of a phase, not only the first
    |- ConfigError - PluginError        options, unknown or duplicate names
    |- DataError                        a dataset row or a metric that does not fit
    |- RunError(node, call_key)
    |   |- EngineError - EngineUnavailable, EngineTimeout, EngineRejected, ContextOverflow
    |   |- OutputError(raw_text, expected)  only for callers who ask for strictness
    |   `- ToolError
    |- OptimizeError - BudgetExhausted, TrainingDiverged
    `- ArtifactError - VersionMismatch, GraphMismatch, Corrupt
    GraphInvariantError(AssertionError)  our own bug: a pass broke the graph

This module knows no other module of lmgraph. Foreign exceptions are mapped once, at the boundary that met them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class LmgraphError(Exception):
    """Base of all errors a caller may want to catch.

    ``message`` is one paragraph; ``hint`` is the next step a person can take.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  next: {self.hint}" if self.hint else self.message


class CompileError(LmgraphError):
    """The program does not compile. ``diagnostics`` holds every problem of the phase that failed."""

    def __init__(self, diagnostics: Sequence[Any], rendered: str) -> None:
        super().__init__(rendered)
        self.diagnostics = tuple(diagnostics)
        """`lmgraph.source.Diagnostic` objects, in source order."""


class ConfigError(LmgraphError):
    """An option, a name or a file the user gave does not fit."""


class PluginError(ConfigError):
    """An optimizer is unknown, registered twice, or does not honour its contract."""


class DataError(LmgraphError):
    """A dataset row does not fit its record, or a metric returned what cannot be a score."""


class RunError(LmgraphError):
    """A run failed. ``node`` and ``call_key`` name the first cause where one is known."""

    def __init__(
        self, message: str, *, node: str | None = None, call_key: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.node = node
        self.call_key = call_key


class EngineError(RunError):
    """An engine could not answer."""


class EngineUnavailable(EngineError):
    """No engine answers for this LM: not installed, not started, or its model is not pulled."""


class EngineTimeout(EngineError):
    """A call passed its deadline."""


class EngineRejected(EngineError):
    """The engine refused the request; sending it again cannot help."""


class ContextOverflow(EngineError):
    """Prompt plus ``max_tokens`` is longer than the model's context."""


class OutputError(RunError):
    """A model output did not fit its declared type, for callers who ask for strictness."""

    def __init__(self, message: str, *, raw_text: str, expected: str, node: str | None = None) -> None:
        super().__init__(message, node=node)
        self.raw_text = raw_text
        self.expected = expected


class ToolError(RunError):
    """A Python reference of the program raised or returned a value of the wrong type."""


class OptimizeError(LmgraphError):
    """An optimize run cannot go on."""


class BudgetExhausted(OptimizeError):
    """The budget's hard stop: what was done until then is kept."""


class TrainingDiverged(OptimizeError):
    """Three non-finite steps in a row."""


class ArtifactError(LmgraphError):
    """An artifact folder cannot be used."""


class VersionMismatch(ArtifactError):
    """The artifact was written in a format this version does not read."""


class GraphMismatch(ArtifactError):
    """The artifact belongs to another program, or the program's interface changed."""


class Corrupt(ArtifactError):
    """A file of the artifact is missing or its hash differs."""


class GraphInvariantError(AssertionError):
    """A bug of ours: a graph that verify refuses. Never the author's fault."""
