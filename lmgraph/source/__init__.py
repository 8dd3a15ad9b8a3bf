"""Where things are in a program's text and what is wrong there."""

from lmgraph.source.diagnostic import Diagnostic, Fix, Label
from lmgraph.source.text import Source, Span

__all__ = ["Diagnostic", "Fix", "Label", "Source", "Span"]
