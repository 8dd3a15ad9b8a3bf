"""Public doubles and contract checks, for tests of programs and for authors of engines and optimizers.

`ScriptedEngine` answers from a table or a function, so that programs run in milliseconds and give the same results
each time. `check_engine` and `check_optimizer` hold a plug-in to its contract; both raise AssertionError that says
which promise was broken.
"""

from lmgraph.testing.engine_contract import check_engine
from lmgraph.testing.optimizer_contract import check_optimizer, tiny_program
from lmgraph.testing.scripted import Reply, ScriptedEngine, last_user_turn
from lmgraph.testing.tokenizer import ByteTokenizer

__all__ = [
    "ByteTokenizer",
    "Reply",
    "ScriptedEngine",
    "check_engine",
    "check_optimizer",
    "last_user_turn",
    "tiny_program",
]
