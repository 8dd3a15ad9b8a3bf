"""Memory and time of one training update, with layers kept and with layers computed again in the backward pass.

    python bench/recompute.py [--prompt 1500] [--groups 2] [--samples 8] [--repeats 3]

The small model, float32, random tokens: `--groups` prompts whose first halves are the same, each with `--samples`
completions of 16 tokens. Each way is a process of its own. Prints the nodes of the trie, seconds of a forward and a
backward pass (the median), the most memory the process had, and whether the gradients are the same.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

WAYS = ("never", "always")


def measure(way: str, prompt: int, groups: int, samples: int, repeats: int) -> dict[str, Any]:
    import torch

    from lmgraph.engines.local.supply import resolve
    from lmgraph_optimizers.mmgrpo.base_model import BaseModel
    from lmgraph_optimizers.mmgrpo.config import MmgrpoConfig
    from lmgraph_optimizers.mmgrpo.trie import TokenSequence, build_trie

    base = BaseModel(resolve("smollm2-135m"), MmgrpoConfig(recompute=way))
    parameters = base.add_adapter("a", seed=0)
    rng = random.Random(0)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(rng.randrange(20, 40_000) for _ in range(count))

    shared = tokens(prompt // 2)
    prompts = [shared + tokens(prompt - prompt // 2) for _ in range(groups)]
    sequences = [TokenSequence(ids, tokens(16), 1.0, None, ()) for ids in prompts for _ in range(samples)]
    trie = build_trie(sorted(sequences, key=lambda one: one.read_ids), base.device)
    seconds = []
    for _ in range(repeats):
        for _, parameter in parameters:
            parameter.grad = None
        began = time.perf_counter()
        logprobs_N, _ = base.logprobs(trie, "a")
        torch.autograd.backward(logprobs_N.sum())
        seconds.append(time.perf_counter() - began)
    digest = hashlib.sha256()
    for _, parameter in parameters:
        if parameter.grad is not None:
            digest.update(parameter.grad.numpy().tobytes())
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"nodes": trie.size, "seconds": statistics.median(seconds), "gb": most, "gradients": digest.hexdigest()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prompt", type=int, default=1500, help="tokens")
    parser.add_argument("--groups", type=int, default=2)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help="measure this one, in this process")
    given = parser.parse_args()
    if given.way:
        print(json.dumps(measure(given.way, given.prompt, given.groups, given.samples, given.repeats)))
        return
    found = {}
    for way in WAYS:
        command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
        told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        found[way] = json.loads(told.splitlines()[-1])
        print(
            f"{way}: {found[way]['nodes']} nodes, {found[way]['seconds']:.1f} s, {found[way]['gb']:.1f} GB", flush=True
        )
    print("the same gradients" if len({one["gradients"] for one in found.values()}) == 1 else "OTHER GRADIENTS")


if __name__ == "__main__":
    main()
