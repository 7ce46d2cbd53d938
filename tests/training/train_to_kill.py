"""A tiny run in a process of its own, for tests that kill it.

    python train_to_kill.py DIR [--resume]

It prints "step N" when it fetches the batch after N, and how to resume when it is stopped.
"""

import sys
import time
from pathlib import Path

import jax

from jconv.training import (
    Checkpoints,
    Interrupted,
    evaluate,
    fit,
    make_eval_step,
    sgd,
    warmup_cosine,
)
from tests.training.small import Batches, batch, make

STEPS, PAUSE = 40, 0.005  # seconds between steps, so that a signal finds the run alive


class Slow(Batches):
    def __next__(self):
        print("step", self.next, flush=True)
        time.sleep(PAUSE)
        return super().__next__()


def main(folder: Path, resume: bool) -> None:
    graph, state, step = make(
        sgd(warmup_cosine(0.2, STEPS, warmup_steps=5)), dropout=0.2, ema=True, ema_decay=0.9
    )
    eval_step = jax.jit(make_eval_step(graph))
    with Checkpoints(folder / "checkpoints", keep=2) as checkpoints:
        fit(
            jax.jit(step, donate_argnums=0), state, Slow(), steps=STEPS, log_every=7,
            evaluate=lambda s: evaluate(eval_step, s, [batch(16, seed=99)]),
            eval_every=8, checkpoints=checkpoints, checkpoint_every=6, resume=resume,
            metrics_file=folder / "metrics.jsonl", progress=False,
            how_to_resume=f"train_to_kill.py {folder} --resume",
        )  # fmt: skip
    print("done", flush=True)


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    try:
        main(Path(sys.argv[1]), "--resume" in sys.argv)
    except Interrupted as stopped:
        print(stopped, flush=True)
        sys.exit(130)
