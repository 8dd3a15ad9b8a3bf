"""The catalogue's codes for learned parameters: E08 and W08. Data only; see codes.py.

Most are found where an artifact is put onto a program: ``CodeInfo.learned`` is the program that it was learned on.
"""

from __future__ import annotations

from lmgraph.source.code_info import CodeInfo

_SORT = "module Sort(text: str) -> (team: str) {}"
_ANSWER = "module Answer(text: str) -> (answer: str) {}"


def _on(lm: str) -> str:
    return f"lm main {{ {lm} }}\nmodule Sort(text: str) -> (team: str) {{ lm: main }}"


E08: tuple[CodeInfo, ...] = (
    CodeInfo(
        "E0801",
        "module moved in a circle",
        "`moved Old -> New` says under which name a module goes on. One may follow another (`moved A -> B` and "
        "`moved B -> C`), and the last name must be that of a module; a circle of them ends nowhere.",
        _SORT + "\nmoved Route -> Send\nmoved Send -> Route",
    ),
    CodeInfo(
        "E0802",
        "learned for another interface",
        "Parameters fit the inputs and outputs that they were learned for: demos hold their fields, and an adapter "
        "knows no others. Order, descriptions and names of types may change; names, types and labels of fields may "
        "not. Nothing of the artifact loads where one module does not fit.",
        "module Sort(text: str, urgent: bool) -> (team: str) {}",
        learned=_SORT,
    ),
    CodeInfo(
        "E0803",
        "learned parameters without a module",
        "The artifact holds parameters of a module that the program does not have, and the program has a module that "
        "is new. Where it is the same one under another name, say so: `moved Old -> New`. What belongs to a module "
        "that was deleted is left out with a warning as long as no new module could be meant.",
        "module Route(text: str) -> (team: str) {}",
        learned=_SORT,
    ),
    CodeInfo(
        "E0804",
        "adapter of another base model",
        "An adapter is a small change to the weights of the model that it was trained on. On the weights of another "
        "model it is noise, even where it fits in.",
        _on('model: "qwen3-0.6b"'),
        learned=_on('model: "smollm2-135m"'),
    ),
    CodeInfo(
        "E0805",
        "learned from private values",
        "Demos, instructions and adapters that were learned on an LM with `clearance: private` may hold private "
        "values, and would hand them to an LM that is not cleared for them.",
        _on("clearance: public"),
        learned=_on("clearance: private"),
    ),
)

W08: tuple[CodeInfo, ...] = (
    CodeInfo(
        "W0801",
        "learned parameters are stale",
        "The parameters load, and what is around them is not what they were learned with: the author's instruction, "
        "a description, the strategy, or the model. They may serve the program worse than before, or worse than what "
        "its author wrote.",
        'module Sort(text: str) -> (team: str) { """Name the team that answers.""" }',
        learned=_SORT,
    ),
    CodeInfo(
        "W0802",
        "learned parameters are left out",
        "The artifact holds parameters of a module that the program does not have, and no module of the program is "
        "new: it was deleted, and they are not used. Or they are the bound of a loop or the number of a retrieval, "
        "and that is gone, or its author has made it smaller than what was chosen.",
        _ANSWER,
        learned=f"{_SORT}\n{_ANSWER}",
    ),
)
