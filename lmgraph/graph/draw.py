"""The graph for people: indented text, a Mermaid flowchart, Graphviz dot. Draws what is there and decides nothing."""

from lmgraph.graph.draw_pictures import to_dot as to_dot
from lmgraph.graph.draw_pictures import to_mermaid as to_mermaid
from lmgraph.graph.draw_text import to_text as to_text
from lmgraph.graph.expression_text import expression_text as expression_text
