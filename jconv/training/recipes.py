"""Optimizers, learning rates and losses: what a paper calls its training recipe.

With g the gradient (clipped to `clip_norm` first, if given), w the parameters, lambda the weight
decay, eta the learning rate of the step and u the momentum:

    sgd     g' = g + lambda w;   v = u v + g'
            w = w - eta (g' + u v)  with Nesterov,   w = w - eta v  without
            *coupled* decay, also called L2: it passes through the momentum, as in PyTorch's SGD
    adamw   m, s = Adam's averages of g;   w = w - eta (m / (sqrt(s) + eps) + lambda w)
            *decoupled* decay, scaled by the learning rate and not by Adam's denominator, as in
            PyTorch's AdamW

Weight decay acts on `decay_mask(params)` only: not on norms and biases.

References: Sutskever et al. 2013 (Nesterov momentum); Loshchilov & Hutter 2019, arXiv:1711.05101
(AdamW), 2017, arXiv:1608.03983 (cosine); Goyal et al. 2017, arXiv:1706.02677 (warm-up); Szegedy et
al. 2016, arXiv:1512.00567 (label smoothing); He et al. 2019, arXiv:1812.01187 (no decay on norms
and biases).
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from jconv.training.step import LossFn, check_batch

ALGORITHMS = ("sgd", "adamw")
_NOT_DECAYED = ("bias", "scale")


def decay_mask(params: Any) -> Any:
    """The tree of bools, of the structure of `params`, that says which arrays weight decay acts on.

    True for arrays of two axes or more that are not called `bias` or `scale`: the kernels of
    convolutions and linear layers, and embeddings; False for everything that has one entry per
    channel.
    """

    def decays(path: tuple[Any, ...], leaf: jax.Array) -> bool:
        names = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
        return leaf.ndim >= 2 and not any(name in _NOT_DECAYED for name in names[-2:])

    return jax.tree_util.tree_map_with_path(decays, params)


def sgd(
    learning_rate: float | optax.Schedule,
    *,
    momentum: float = 0.9,
    nesterov: bool = True,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    """Stochastic gradient descent with coupled weight decay; for the equation see above.

    Args:
      clip_norm: the gradient's largest global L2 norm; None does not clip.

    Raises:
      ValueError: an argument is negative or not finite, or momentum is 1 or more.
    """
    _check_common("sgd", learning_rate, weight_decay, clip_norm)
    _check_range("sgd", "momentum", momentum, below=1)
    return optax.chain(
        _clip(clip_norm),
        optax.add_decayed_weights(weight_decay, decay_mask) if weight_decay else optax.identity(),
        optax.trace(momentum, nesterov) if momentum else optax.identity(),
        _descend(learning_rate),
    )


def adamw(
    learning_rate: float | optax.Schedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay; see the equation at the top of this file.

    Raises:
      ValueError: an argument is negative or not finite, or b1 or b2 is 1 or more.
    """
    _check_common("adamw", learning_rate, weight_decay, clip_norm)
    _check_range("adamw", "b1", b1, below=1)
    _check_range("adamw", "b2", b2, below=1)
    _check_range("adamw", "eps", eps)
    return optax.chain(
        _clip(clip_norm),
        optax.scale_by_adam(b1, b2, eps),
        optax.add_decayed_weights(weight_decay, decay_mask) if weight_decay else optax.identity(),
        _descend(learning_rate),
    )


def warmup_cosine(
    peak: float, total_steps: int, *, warmup_steps: int = 0, end: float = 0.0
) -> optax.Schedule:
    """The learning rate of step t = 0, 1, ...: peak (t + 1) / (warmup_steps + 1) at first, then
    half a cosine.

    The first step already learns (with 0 it would only gather statistics); `peak` is reached at t =
    warmup_steps and `end` at t = total_steps, one after the last step.

    Raises:
      ValueError: a value is negative or not finite, or the warm-up is as long as the run or longer.
    """
    _check_range("warmup_cosine", "peak", peak)
    _check_range("warmup_cosine", "end", end)
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            "warmup_cosine: the warm-up must be shorter than the run; got "
            f"warmup_steps={warmup_steps} of total_steps={total_steps}"
        )
    first = peak / (warmup_steps + 1)
    return optax.warmup_cosine_decay_schedule(first, peak, warmup_steps, total_steps, end)


def cross_entropy(label_smoothing: float = 0.0) -> LossFn:
    """`loss_fn(model, batch) -> (loss, {"accuracy"})`: the mean softmax cross entropy in nats,
    computed in float32.

    The target of an image is 1 - label_smoothing on its class, plus label_smoothing / classes on
    every class. A label that is no class has the loss NaN.

    Raises:
      ValueError: `label_smoothing` is outside [0, 1); when traced: there is no `image` or `label`.
    """
    _check_range("cross_entropy", "label_smoothing", label_smoothing, below=1)

    def loss_fn(model: Any, batch: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        check_batch("cross_entropy", batch, "image", "label")
        logits = model(batch["image"]).astype(jnp.float32)
        labels = batch["label"]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        if label_smoothing:
            uniform = -jax.nn.log_softmax(logits).mean(-1)
            losses = (1 - label_smoothing) * losses + label_smoothing * uniform
        losses = jnp.where(labels < 0, jnp.nan, losses)  # optax counts negative ones from the end
        return losses.mean(), {"accuracy": (logits.argmax(-1) == labels).mean()}

    return loss_fn


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train, in numbers: printable, comparable, and checked when it is made.

    Attributes:
      algorithm: "sgd" or "adamw".
      learning_rate: the peak of the schedule.
      end_learning_rate: where the cosine ends.
      warmup_steps: steps of linear warm-up; None is a twentieth of the run.
      weight_decay: coupled for sgd, decoupled for adamw; see the top of this file.
      momentum, nesterov: for sgd.
      b1, b2, eps: for adamw.
      clip_norm: the largest global L2 norm of the gradient, None for no clipping.
      label_smoothing: in [0, 1).
      ema_decay: of the moving average of the parameters, in [0, 1); None keeps none.

    Raises:
      ValueError: a value is out of its range, or the algorithm is unknown.
    """

    algorithm: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.1
    end_learning_rate: float = 0.0
    warmup_steps: int | None = None
    weight_decay: float = 5e-4
    momentum: float = 0.9
    nesterov: bool = True
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    clip_norm: float | None = None
    label_smoothing: float = 0.0
    ema_decay: float | None = None

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            near = difflib.get_close_matches(
                str(self.algorithm).lower(), ALGORITHMS, n=2, cutoff=0.4
            )
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise ValueError(
                f"Recipe: algorithm must be one of {', '.join(map(repr, ALGORITHMS))}; got "
                f"{self.algorithm!r}{hint}"
            )
        if self.warmup_steps is not None:
            _check_range("Recipe", "warmup_steps", self.warmup_steps)
        _check_range("Recipe", "end_learning_rate", self.end_learning_rate)
        _check_range("Recipe", "label_smoothing", self.label_smoothing, below=1)
        if self.ema_decay is not None:
            _check_range("Recipe", "ema_decay", self.ema_decay, below=1)
        self._build(self.learning_rate)

    def schedule(self, total_steps: int) -> optax.Schedule:
        """Warm-up and cosine over `total_steps`.

        Raises:
          ValueError: the warm-up is as long as the run or longer.
        """
        warmup = total_steps // 20 if self.warmup_steps is None else self.warmup_steps
        return warmup_cosine(
            self.learning_rate, total_steps, warmup_steps=warmup, end=self.end_learning_rate
        )  # fmt: skip

    def optimizer(self, total_steps: int) -> optax.GradientTransformation:
        """The Optax transformation for a run of `total_steps`; its state records the learning rate.

        Raises:
          ValueError: the warm-up is as long as the run or longer.
        """
        return self._build(self.schedule(total_steps))

    def loss_fn(self) -> LossFn:
        """The cross entropy with this recipe's label smoothing."""
        return cross_entropy(self.label_smoothing)

    def _build(self, rate: float | optax.Schedule) -> optax.GradientTransformation:
        common = {"weight_decay": self.weight_decay, "clip_norm": self.clip_norm}
        if self.algorithm == "sgd":
            return sgd(rate, momentum=self.momentum, nesterov=self.nesterov, **common)
        return adamw(rate, b1=self.b1, b2=self.b2, eps=self.eps, **common)


def _clip(norm: float | None) -> optax.GradientTransformation:
    return optax.identity() if norm is None else optax.clip_by_global_norm(norm)


def _descend(learning_rate: float | optax.Schedule) -> optax.GradientTransformation:
    # inject_hyperparams keeps the rate of the last step in the state, where the train step reads it
    # for its metrics.
    return optax.inject_hyperparams(optax.scale_by_learning_rate)(learning_rate)


def _check_common(who: str, rate: Any, weight_decay: float, clip_norm: float | None) -> None:
    if not callable(rate):
        _check_range(who, "learning_rate", rate)
    _check_range(who, "weight_decay", weight_decay)
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"{who}: clip_norm must be positive, or None not to clip; got {clip_norm}")


def _check_range(who: str, name: str, value: float, *, below: float = math.inf) -> None:
    if not 0 <= value < below:
        interval = "0 or more, and finite" if below == math.inf else f"in [0, {below})"
        raise ValueError(f"{who}: {name} must be {interval}; got {value}")
