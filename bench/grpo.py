"""One GRPO update on the same recorded rollouts: mmgrpo's trainer beside TRL's GRPOTrainer.

    python -m venv .venv-peers && .venv-peers/bin/pip install -r bench/requirements-peers.txt
    python bench/grpo.py [--rows 8] [--samples 8] [--precision float32] [--threads 2] [--repeat 3]

Records rollouts of programs/intent with one demo (or reads those that are there), then lets each side make the same
update in a process of its own: LoRA r 16 on all linear layers, token-level loss, no KL, no division by a deviation,
clip 0.2/0.28, AdamW 3e-4. Rows whose samples all scored the same are left out for both, because mmgrpo would skip them
and TRL would compute them. Prints seconds of an update, peak memory, and mmgrpo's share of the bound: all tokens that
one forward pass a call reads, against those that any exact computation must read.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
ROLLOUTS = ROOT / ".lmgraph" / "bench" / "grpo-rollouts.json"
PEERS = ROOT / ".venv-peers" / "bin" / "python"
MODEL = "smollm2-135m"
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
LEARNING_RATE = 3e-4
TRL_MICRO_BATCH = 16


async def record(rows: int, samples: int, shown: int) -> dict[str, Any]:
    """Rollouts of the first training rows whose samples differ in what they earn."""
    import lmgraph
    from lmgraph.engines.local.supply import resolve
    from lmgraph.evaluate import RolloutPlan, make_task, rollouts
    from lmgraph.program import Demo
    from lmgraph.runtime import Runtime

    program = lmgraph.compile_file(ROOT / "programs" / "intent" / "program.lmg")
    task = make_task(program)
    labelled = list(task.train[:shown])
    demos = tuple(
        Demo({"text": row.values["text"]}, {"intent": row.values["intent"]}, "labelled", row.id) for row in labelled
    )
    program = program.with_params(program.params.with_module("Classify", demos=demos))
    kept: list[list[dict[str, Any]]] = []
    skipped = taken = 0
    async with Runtime() as runtime:
        while len(kept) < rows and taken < 20 * rows:
            part = task.train[shown + taken : shown + taken + rows]
            taken += rows
            done = await rollouts(runtime, program, task, part, RolloutPlan("strict", 1.0, samples, phase="train"))
            for start in range(0, len(done), samples):
                group = done[start : start + samples]
                if len({one.score.value for one in group}) < 2:
                    skipped += 1
                    continue
                kept.append([_call(one) for one in group])
    return {"model_folder": str(resolve(MODEL)), "groups": kept[:rows], "skipped_rows": skipped, "samples": samples}


def _call(rollout: Any) -> dict[str, Any]:
    (call,) = rollout.trace.calls
    return {
        "prompt_ids": list(call.prompt_ids),
        "completion_ids": list(call.completion_ids),
        "logprobs": list(call.logprobs),
        "reward": rollout.score.value,
    }


def ours(data: dict[str, Any], precision: Any, repeat: int) -> dict[str, Any]:
    from lmgraph.runtime import Call
    from lmgraph_optimizers.mmgrpo.base_model import BaseModel
    from lmgraph_optimizers.mmgrpo.batch import TrainingSample, weigh
    from lmgraph_optimizers.mmgrpo.config import MmgrpoConfig
    from lmgraph_optimizers.mmgrpo.trainer import LoraTrainer

    config = MmgrpoConfig(precision=precision, warmup=0, learning_rate=LEARNING_RATE)
    samples = []
    for number, group in enumerate(data["groups"]):
        total = sum(call["reward"] for call in group)
        for call in group:
            others = (total - call["reward"]) / (len(group) - 1)
            made = Call(
                node="F/out", call_key="F/out", module="Classify", lm="default", engine="local", model=MODEL,
                adapter=None, template="", prompt_ids=call["prompt_ids"], completion_ids=call["completion_ids"],
                logprobs=call["logprobs"], temperature=1.0, seed=0, constrained=False, finish_reason="stop", text="",
                inputs={}, outputs={},
            )  # fmt: skip
            samples.append(TrainingSample(made, call["reward"] - others, number))
    samples = weigh(samples, "batch")
    trainer = LoraTrainer(BaseModel(Path(data["model_folder"]), config), config, seed=0)
    loaded = peak_gigabytes()
    seconds, stats = [], None
    for _ in range(repeat + 1):
        began = time.perf_counter()
        stats = trainer.update(samples)
        seconds.append(time.perf_counter() - began)
    assert stats is not None
    return {
        "seconds": statistics.median(seconds[1:]),
        "first_seconds": seconds[0],
        "loaded_gigabytes": loaded,
        "peak_gigabytes": peak_gigabytes(),
        "plain_tokens": stats.plain_tokens,
        "unique_tokens": stats.unique_tokens,
        "computed_tokens": stats.computed_tokens,
        "share_of_bound": stats.unique_tokens / stats.computed_tokens,
    }


def trl(data: dict[str, Any], precision: str, repeat: int) -> dict[str, Any]:
    """The update alone: from the moment TRL has its rollouts to the end of its optimizer step."""
    import torch
    import transformers
    from datasets import Dataset
    from datasets.table import InMemoryTable
    from peft import LoraConfig
    from trl import GRPOConfig, GRPOTrainer

    groups = data["groups"]
    began = 0.0
    seconds: list[float] = []

    def replay(prompts: list[str], trainer: Any) -> dict[str, list[Any]]:
        nonlocal began
        seen: dict[str, int] = {}
        calls = []
        for prompt in prompts:
            index = seen.get(prompt, 0)
            seen[prompt] = index + 1
            calls.append(groups[int(prompt)][index])
        began = time.perf_counter()
        return {
            "prompt_ids": [call["prompt_ids"] for call in calls],
            "completion_ids": [call["completion_ids"] for call in calls],
            "logprobs": None,  # old log-probabilities are computed only where there are several updates a batch
            "reward": [call["reward"] for call in calls],
        }

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, *arguments: Any, **options: Any) -> None:
            seconds.append(time.perf_counter() - began)

    calls = len(groups) * data["samples"]
    micro = min(TRL_MICRO_BATCH, calls)
    config = GRPOConfig(
        output_dir=str(ROOT / ".lmgraph" / "bench" / "trl"), max_steps=repeat + 1, learning_rate=LEARNING_RATE,
        per_device_train_batch_size=micro, gradient_accumulation_steps=max(1, calls // micro),
        num_generations=data["samples"], max_completion_length=16, beta=0.0, epsilon=0.2, epsilon_high=0.28,
        loss_type="dapo", scale_rewards="none", temperature=1.0, max_grad_norm=1.0, warmup_steps=0,
        lr_scheduler_type="constant", bf16=precision == "bfloat16", gradient_checkpointing=False, use_cpu=True,
        shuffle_dataset=False, logging_strategy="no", save_strategy="no", report_to="none", disable_tqdm=True,
    )  # fmt: skip
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    model = transformers.AutoModelForCausalLM.from_pretrained(data["model_folder"], dtype=dtype)
    # With a name of its own the table is not hashed, which some releases of datasets and pyarrow cannot do together.
    table = InMemoryTable.from_pydict({"prompt": [str(number) for number in range(len(groups))] * (repeat + 1)})
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, reward, **options: reward,
        args=config,
        train_dataset=Dataset(table, fingerprint="rollouts"),
        processing_class=transformers.AutoTokenizer.from_pretrained(data["model_folder"]),
        peft_config=LoraConfig(**LORA),
        rollout_func=replay,
        callbacks=[Clock()],
    )
    loaded = peak_gigabytes()
    trainer.train()
    return {
        "seconds": statistics.median(seconds[1:]),
        "first_seconds": seconds[0],
        "loaded_gigabytes": loaded,
        "peak_gigabytes": peak_gigabytes(),
        "plain_tokens": sum(
            len(call["prompt_ids"]) + len(call["completion_ids"]) for group in groups for call in group
        ),
    }


def peak_gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measure(side: str, python: str, options: argparse.Namespace) -> dict[str, Any] | None:
    environment = {
        **os.environ, "OMP_NUM_THREADS": str(options.threads), "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0",
        "HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1",
    }  # fmt: skip
    command = [python, __file__, "--side", side, "--precision", options.precision, "--repeat", str(options.repeat)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print(f"{side} failed with {done.returncode}", file=sys.stderr)
        return None
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="One update on recorded rollouts, beside TRL's.")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--demos", type=int, default=1, help="in the prompt; with one it is about 190 tokens long")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repeat", type=int, default=3, help="updates timed after the first")
    parser.add_argument("--peers", default=str(PEERS), help="Python that has TRL")
    parser.add_argument("--fresh", action="store_true", help="record new rollouts")
    parser.add_argument("--side", choices=["ours", "trl"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        import torch

        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        data = json.loads(ROLLOUTS.read_text())
        print(json.dumps((ours if options.side == "ours" else trl)(data, options.precision, options.repeat)))
        return
    if options.fresh or not ROLLOUTS.exists():
        ROLLOUTS.parent.mkdir(parents=True, exist_ok=True)
        ROLLOUTS.write_text(json.dumps(asyncio.run(record(options.rows, options.samples, options.demos))))
    data = json.loads(ROLLOUTS.read_text())
    if (len(data["groups"]), data["samples"]) != (options.rows, options.samples):
        parser.error(f"{ROLLOUTS} has {len(data['groups'])} rows x {data['samples']} samples: add --fresh")
    found = {"mmgrpo": measure("ours", sys.executable, options)}
    if Path(options.peers).exists():
        found["TRL GRPOTrainer"] = measure("trl", options.peers, options)
    else:
        print(f"{options.peers} is not there: only mmgrpo is measured; the head of this file says how to get TRL")
    print(table(found, data, options))
    path = RESULTS / f"grpo-{options.precision}.json"
    settings = {"threads": options.threads, "rows": len(data["groups"]), "samples": data["samples"],
                "machine": f"{platform.machine()}, {platform.system()}"}  # fmt: skip
    path.write_text(json.dumps({**settings, "results": found}, indent=1) + "\n")


def table(found: dict[str, Any], data: dict[str, Any], options: argparse.Namespace) -> str:
    calls = [call for group in data["groups"] for call in group]
    lines = [
        f"{len(data['groups'])} rows x {data['samples']} samples that all train ({data['skipped_rows']} rows without"
        f" variance left out), prompts of {sum(len(call['prompt_ids']) for call in calls) / len(calls):.0f} tokens,"
        f" {options.precision}, {options.threads} threads",
        "",
        "| | seconds an update | the first | peak GB | loaded GB | tokens read | share of the bound |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, one in found.items():
        if one is not None:
            share = f"{one['share_of_bound']:.2f}" if "share_of_bound" in one else ""
            lines.append(
                f"| {name} | {one['seconds']:.2f} | {one['first_seconds']:.2f} | {one['peak_gigabytes']:.1f} |"
                f" {one['loaded_gigabytes']:.1f} | {one.get('computed_tokens', one['plain_tokens'])} | {share} |"
            )
    mine, peer = found.get("mmgrpo"), found.get("TRL GRPOTrainer")
    if mine and peer:
        faster = peer["seconds"] / mine["seconds"]
        memory = mine["peak_gigabytes"] / peer["peak_gigabytes"]
        fewer = mine["plain_tokens"] / mine["computed_tokens"]
        lines.append(f"\n{faster:.1f} times faster, {memory:.2f} of the memory, {fewer:.1f} times fewer tokens read.")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
