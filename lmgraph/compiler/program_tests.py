"""Declared tests: stubs for what they do not want to run, and asserts about what comes out."""

from __future__ import annotations

from collections.abc import Sequence

from lmgraph.compiler.calls import Target, check_arguments
from lmgraph.compiler.declare import Declarations
from lmgraph.compiler.facts import Facts, SignatureTypes
from lmgraph.compiler.flows import BodyChecker
from lmgraph.compiler.reporter import Reporter
from lmgraph.compiler.resolve import kind_of
from lmgraph.compiler.scope import Scope
from lmgraph.source.diagnostic import Label
from lmgraph.source.text import Span
from lmgraph.syntax import tree

_IN_STUB = ("in a stub", "an answer is written out: texts, numbers, lists, records and enum members")


def check_tests(tests: Sequence[tree.Test], declarations: Declarations, reporter: Reporter, facts: Facts) -> None:
    """Reports every problem of the tests and leaves the types of their expressions in ``facts``."""
    titles: dict[str, Span] = {}
    for test in tests:
        head = Span(test.span.file, test.span.start, test.span.start + len("test"))
        if not test.title.strip():
            reporter.error("E0322", head, "the title of this test is empty", help="say what must hold, in a few words")
        elif test.title in titles:
            reporter.error(
                "E0202", head, f'there are two tests "{test.title}"',
                secondary=[Label(titles[test.title], "the first one")], help="give each a title of its own",
            )  # fmt: skip
        titles.setdefault(test.title, head)
        checker = BodyChecker(declarations, reporter, facts, None)
        stubbed: dict[str, Span] = {}
        for statement in test.body:
            if isinstance(statement, tree.Stub):
                _check_stub(statement, stubbed, checker, declarations, reporter)
        checker.block(test.body, Scope({}))
        if not any(_asserts(statement) for statement in test.body):
            reporter.warning(
                "W0009", head, f'test "{test.title}" asserts nothing', help='add `assert … else "what went wrong"`'
            )


def _check_stub(
    stub: tree.Stub,
    stubbed: dict[str, Span],
    checker: BodyChecker,
    declarations: Declarations,
    reporter: Reporter,
) -> None:
    found = declarations.names.get(stub.name.text, stub.name.span)
    if not isinstance(found, tree.Module | tree.Instance | tree.Flow | tree.Extern):
        if found is not None:
            reporter.error(
                "E0204", stub.name.span, f"`{stub.name.text}` is {kind_of(found)}; a stub stands for something called",
                secondary=[Label(found.name.span, "declared here")],
            )  # fmt: skip
        else:
            declarations.names.find_callable(stub.name.text, stub.name.span)
        return
    if stub.name.text in stubbed:
        reporter.error(
            "E0202", stub.name.span, f"`{stub.name.text}` is stubbed a second time",
            secondary=[Label(stubbed[stub.name.text], "first here")],
            help=f"write the answers in one stub: `stub {stub.name.text} -> (…), (…)`",
        )  # fmt: skip
    stubbed.setdefault(stub.name.text, stub.name.span)
    signature = declarations.signature(found)
    checker.expressions.facts.set_stubbed(stub, signature.name)
    scope = Scope({}).without_calls(_IN_STUB)
    for answer in stub.answers:
        _check_answer(stub, answer, signature, Label(found.name.span, "declared here"), scope, checker, reporter)


def _check_answer(
    stub: tree.Stub,
    answer: tuple[tree.Argument, ...],
    signature: SignatureTypes,
    declared: Label,
    scope: Scope,
    checker: BodyChecker,
    reporter: Reporter,
) -> None:
    if signature.bare is None:
        target = Target(stub.name.text, stub.name.span, declared, returns=True)
        check_arguments(answer, signature.outputs, target, scope, checker.expressions)
        return
    if len(answer) != 1 or answer[0].name is not None:
        named = bool(answer) and answer[0].name is not None
        reporter.error(
            "E0302" if named else "E0303",
            answer[0].span.to(answer[-1].span) if answer else stub.name.span,
            f"`{stub.name.text}` gives back one value without a name",
            secondary=[declared],
            help=f"write `stub {stub.name.text} -> (…)` with a `{signature.bare}`",
        )
        return
    checker.expressions.check(answer[0].value, scope, signature.bare, f"the answer of `{stub.name.text}`", declared)


def _asserts(statement: tree.Statement) -> bool:
    match statement:
        case tree.Assert():
            return True
        case tree.If(then=then, otherwise=otherwise):
            return any(_asserts(inner) for inner in (*then, *(otherwise or ())))
        case tree.Repeat(body=body):
            return any(_asserts(inner) for inner in body)
        case _:
            return False
