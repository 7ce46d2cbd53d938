"""Training: one pure step, the loop round it, and everything that makes a run repeatable."""

from jconv.training.checkpoint import Checkpoints, DamagedCheckpoint, Restored
from jconv.training.evaluation import evaluate, make_eval_step
from jconv.training.interrupts import Interrupted
from jconv.training.loop import FitResult, NonFiniteLoss, fit
from jconv.training.metrics_file import MetricsFile, read_metrics
from jconv.training.recipes import Recipe, adamw, cross_entropy, decay_mask, sgd, warmup_cosine
from jconv.training.sharding import (
    data_parallel,
    mesh,
    pmap_replicate,
    pmap_step,
    pmap_unreplicate,
    replicate,
)
from jconv.training.state import TrainState
from jconv.training.step import make_train_step

__all__ = [
    "TrainState", "make_train_step", "make_eval_step", "evaluate", 
    "Recipe", "sgd", "adamw", "warmup_cosine", "decay_mask", "cross_entropy",
    "mesh", "replicate", "data_parallel", "pmap_step", "pmap_replicate", "pmap_unreplicate",
    "Checkpoints", "Restored", "DamagedCheckpoint",
    "fit", "FitResult", "Interrupted", "NonFiniteLoss", "MetricsFile", "read_metrics",
]  # fmt: skip
