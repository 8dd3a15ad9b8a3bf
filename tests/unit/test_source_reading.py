"""Reading program files: what cannot be a program is refused with what, where and what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lmgraph.errors import ConfigError
from lmgraph.source.reading import MAX_BYTES, read_source


def refused(path: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read_source(path)
    assert caught.value.hint
    assert str(path) in caught.value.message
    return caught.value


def test_text_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "p.lmg"
    path.write_bytes("\ufeffedition 1\r\nlm é {}".encode())
    source = read_source(path, "p.lmg")
    assert source.text == "edition 1\r\nlm é {}"
    assert (source.name, source.path) == ("p.lmg", path)
    assert read_source(path).name == str(path)


def test_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "hello.lmg").write_text("")
    error = refused(tmp_path / "helo.lmg")
    assert "no such file" in error.message
    assert "hello.lmg" in str(error.hint)
    assert "check the path" in str(refused(tmp_path / "none" / "x.lmg").hint)


def test_folder(tmp_path: Path) -> None:
    (tmp_path / "hello.lmg").write_text("")
    error = refused(tmp_path)
    assert "is a folder" in error.message
    assert "hello.lmg" in str(error.hint)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04rest", "a zip archive"),
        (b"\x89PNG\r\n", "an image"),
        (b"abc\0def", "binary data"),
        ("edition 1".encode("utf-16"), "UTF-16"),
        (b"lm a {\n  b: \xe9\n}", "byte 0xE9 on line 2 (byte 13 of the file)"),
        (b"x" * (MAX_BYTES + 1), "larger than 4,000,000 bytes"),
    ],
)
def test_other_data(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "p.lmg"
    path.write_bytes(data)
    assert words in refused(path).message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "p.lmg"
    path.write_text("lm a {}")
    path.chmod(0)
    assert "permission" in refused(path).message


def test_paths_the_system_refuses(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / ("x" * 300 + ".lmg")).message
    with pytest.raises(ConfigError):
        read_source(Path("a\0b"), "odd")
