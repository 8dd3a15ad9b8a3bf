"""Starts an SGLang server, with or without an accelerator, in an environment of its own: python serve.py FLAGS.

It is run as a script by `lmgraph engine up` and never imported by lmgraph. SGLang's wheel is built for CUDA; three
things keep it from starting on a torch for CPUs, none of which serving needs: its kernels have no CPU build (they are
imported, and called for speculative decoding only), torchvision's wheel holds CUDA operators that cannot load, and its
adapters pin host memory, which needs an accelerator. SGLang's worker processes import this file under another name, so
the lines below run in each of them.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

API_KEY_VARIABLE = "LMGRAPH_SGLANG_API_KEY"
ADMIN_KEY_VARIABLE = "LMGRAPH_SGLANG_ADMIN_KEY"
ALLOCATORS = ("tensor", "empty", "zeros", "ones", "full", "arange")


class _NoKernels(types.ModuleType):
    """A module that has every name, and fails where one of them is called."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError(f"sgl_kernel.{name} has no build for this machine")

        return missing


def _unpinned(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, pin_memory: bool = False, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def _unpinned_method(self: Any, *args: Any, **kwargs: Any) -> Any:
    return self


def _without_accelerator() -> bool:
    return not torch.accelerator.is_available()


if _without_accelerator() and "sgl_kernel" not in sys.modules:
    os.environ.setdefault("SGLANG_USE_CPU_ENGINE", "1")
    sys.modules["sgl_kernel"] = _NoKernels("sgl_kernel")
    sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
    for _name in ALLOCATORS:
        setattr(torch, _name, _unpinned(getattr(torch, _name)))
    torch.Tensor.pin_memory = _unpinned_method  # type: ignore[method-assign]


def main() -> None:
    launch: Any = importlib.import_module("sglang.launch_server")
    arguments: Any = importlib.import_module("sglang.srt.server_args")
    utils: Any = importlib.import_module("sglang.srt.utils")
    flags = sys.argv[1:]
    # Keys come through the environment: what stands on a command line, every user of the machine can read.
    for flag, variable in (("--api-key", API_KEY_VARIABLE), ("--admin-api-key", ADMIN_KEY_VARIABLE)):
        if key := os.environ.get(variable):
            flags += [flag, key]
    try:
        launch.run_server(arguments.prepare_server_args(flags))
    finally:
        utils.kill_process_tree(os.getpid(), include_parent=False)


if __name__ == "__main__":
    main()
