"""Bindings to engines elsewhere: what may be written, what wins, and what a private LM may not be bound to."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmgraph.cli.common import BindingFlags, Settings, bind, read_settings
from lmgraph.compiler.compile import compile_path
from lmgraph.errors import ConfigError, EngineUnavailable
from lmgraph.program import Program
from lmgraph.runtime import Binding, Runtime
from lmgraph.runtime.addresses import check_clearance, checked_url, is_loopback
from lmgraph.runtime.bind import Bindings

PROGRAM = """edition 1
lm guarded { model: "smollm2-135m"  clearance: private }
module A(x: str) -> (y: str) { lm: guarded }
module B(x: str) -> (y: str) {}
flow F(x: str) -> (y: str) {
  a = A(x=x)
  b = B(x=a.y)
  return (y=b.y)
}
"""


@pytest.fixture
def program(tmp_path: Path) -> Program:
    path = tmp_path / "program.lmg"
    path.write_text(PROGRAM, "utf-8")
    return Program.default(compile_path(path).require(), tmp_path)


@pytest.mark.parametrize(
    ("text", "binding"),
    [
        ("sglang:http://a:30000", Binding("sglang", None, ("http://a:30000",))),
        ("sglang:http://a:1/,https://b:2", Binding("sglang", None, ("http://a:1", "https://b:2"))),
        ("sglang:org/name@http://a:1", Binding("sglang", "org/name", ("http://a:1",))),
        ("sglang", Binding("sglang")),
        ("sglang:smollm2-135m", Binding("sglang", "smollm2-135m")),
        ("openai:small-1@https://x/v1", Binding("openai", "small-1", ("https://x/v1",))),
        ("openai:small-1", Binding("openai", "small-1")),
        ("local:smollm2-135m", Binding("local", "smollm2-135m")),
        ("local", Binding("local")),
        ("Qwen/Qwen3-0.6B", Binding(None, "Qwen/Qwen3-0.6B")),
        ("./folder", Binding(None, "./folder")),
    ],
)
def test_bindings_are_read(text: str, binding: Binding) -> None:
    assert Binding.parse(text) == binding


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("http://a:1", "a URL without an engine"),
        ("sgalng:http://a:1", "no engine `sgalng`"),
        ("sglang:http://", "no URL"),
        ("sglang:http://a:99999", "no URL"),
        ("sglang:http://user:secret@a:1", "holds a user or a password"),
        ("sglang:http://a:1?key=secret", "query"),
    ],
)
def test_bindings_that_are_none_are_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        Binding.parse(text)
    assert "secret" not in str(refused.value) or "key" in text


def test_an_engine_and_its_urls_go_together(program: Program) -> None:
    settings = Settings(engine="sglang:http://toml:1", model="toml", lms={"guarded": "sglang:http://lm:1"})
    lms, rest = bind(program, settings, BindingFlags(), {})
    assert lms == {"guarded": Binding("sglang", None, ("http://lm:1",))}
    assert rest == Binding("sglang", "toml", ("http://toml:1",))
    lms, rest = bind(program, settings, BindingFlags(), {"LMGRAPH_ENGINE": "sglang:mine@http://env:1"})
    assert rest == lms["guarded"] == Binding("sglang", "mine", ("http://env:1",))
    lms, rest = bind(program, settings, BindingFlags(engine="local"), {"LMGRAPH_ENGINE": "sglang:http://env:1"})
    assert rest == Binding("local", "toml")
    assert lms["guarded"] == Binding("local")
    lms, _ = bind(program, settings, BindingFlags(lms=("guarded=openai:m@https://x/v1",)), {})
    assert lms["guarded"] == Binding("openai", "m", ("https://x/v1",))


def test_options_of_engines_stand_in_the_settings(tmp_path: Path) -> None:
    text = (
        'engine = "openai:m"\n[options.openai]\nstructured = false\n[options.openai.prices.m]\ninput = 1\noutput = 2\n'
    )
    (tmp_path / "lmgraph.toml").write_text(text, "utf-8")
    options = read_settings(tmp_path).options
    assert options == {"openai": {"structured": False, "prices": {"m": {"input": 1, "output": 2}}}}
    (tmp_path / "lmgraph.toml").write_text("[options]\nstructured = false\n", "utf-8")
    with pytest.raises(ConfigError, match="a table for each engine"):
        read_settings(tmp_path)


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:1", True),
        ("http://127.9.9.9:1", True),
        ("http://[::1]:1", True),
        ("http://localhost:1", True),
        ("http://localhost.example:1", False),
        ("http://127.0.0.1.example:1", False),
        ("http://10.0.0.1:1", False),
        ("http://0.0.0.0:1", False),
        ("http://2130706433:1", False),
    ],
)
def test_loopback_is_this_machine_alone(url: str, loopback: bool) -> None:
    assert is_loopback(checked_url(url)) is loopback


def test_a_private_lm_stays_on_this_machine_or_on_listed_hosts() -> None:
    check_clearance("guarded", ("http://127.0.0.1:1", "http://localhost:2"), {})
    with pytest.raises(ConfigError, match=r"clearance: private.*models\.example is another machine") as refused:
        check_clearance("guarded", ("http://127.0.0.1:1", "https://models.example/v1"), {})
    assert "LMGRAPH_PRIVATE_HOSTS" in (refused.value.hint or "")
    check_clearance("guarded", ("https://Models.Example/v1",), {"LMGRAPH_PRIVATE_HOSTS": "other, MODELS.example"})


@pytest.mark.parametrize("bound", ["openai:m@https://models.example/v1", "openai:m", "sglang:http://models.example:1"])
async def test_a_private_lm_is_refused_elsewhere_before_anything_is_sent(
    program: Program, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    for variable in ("LMGRAPH_PRIVATE_HOSTS", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    bindings = Bindings({"guarded": Binding.parse(bound)})
    with pytest.raises(ConfigError, match="another machine"):
        await bindings.engine(program.graph, "guarded")
    await bindings.aclose()


async def test_a_public_lm_may_be_bound_elsewhere(program: Program) -> None:
    bindings = Bindings(everything=Binding.parse("openai:m@https://models.example/v1"))
    assert (await bindings.engine(program.graph, "default")).model_id == "m"
    with pytest.raises(ConfigError, match="another machine"):
        await bindings.engine(program.graph, "guarded")
    await bindings.aclose()


async def test_without_a_server_a_run_is_an_error_with_three_ways_out(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMGRAPH_HOME", str(tmp_path / "home"))
    async with Runtime(everything=Binding("sglang")) as runtime:
        with pytest.raises(EngineUnavailable) as refused:
            await runtime.run(program, {"x": "a"})
    hint = refused.value.hint or ""
    assert "lmgraph engine up --model smollm2-135m" in hint
    assert "--lm NAME=sglang:http://HOST:PORT" in hint
    assert "--engine local" in hint


async def test_the_local_engine_takes_no_url(program: Program) -> None:
    bindings = Bindings(everything=Binding("local", None, ("http://127.0.0.1:1",)))
    with pytest.raises(ConfigError, match="takes no URL"):
        await bindings.engine(program.graph, "default")
