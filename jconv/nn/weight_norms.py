"""Layers whose weights are normalised before each call: wrappers, as in `flax.nnx`.

The wrapped layer keeps its own weights: the optimiser moves v, and the call is made with the
normalised weights in a copy of the layer. (Flax's wrappers write the normalised weights over v.)
Whatever else the layer changes, running statistics or random counters, it keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype as flax_promote_dtype
from jax.nn.initializers import Initializer

from jconv.nn.arguments import ones_init
from jconv.ops.weight_norms import filter_norms, spectral_norm, weight_norm, weight_standardize
from jconv.window import whole

type Axes = int | Sequence[int]
KERNELS = nnx.PathContains("kernel")


class WeightNorm(nnx.Module):
    """`layer_instance` with weights g v / ||v||: arguments and parameters of `flax.nnx.WeightNorm`.

    Parameters: those of the layer, v, and scales, g of each of them by its path.

    Args:
      feature_axes: each of their indices is a filter with a norm of its own; None or () takes all
        weights as one.
      use_scale: False fixes g at 1.
      scale_init: of g; None takes ||v||, which leaves the layer's function as it was (PyTorch).
      variable_filter: which of the layer's parameters are normalised.

    Raises:
      ValueError: axes that the weights don't have.

    Reference: Salimans & Kingma 2016, arXiv:1602.07868.
    """

    def __init__(
        self,
        layer_instance: nnx.Module,
        *,
        feature_axes: Axes | None = -1,
        use_scale: bool = True,
        scale_init: Initializer | None = ones_init,
        epsilon: float = 1e-12,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        variable_filter: nnx.filterlib.Filter = KERNELS,
        promote_dtype: Callable[..., Any] = flax_promote_dtype,
        rngs: nnx.Rngs,
    ):
        self.layer_instance = layer_instance
        self.feature_axes = () if feature_axes is None else feature_axes
        self.use_scale = use_scale
        self.scale_init = scale_init
        self.epsilon = epsilon
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.variable_filter = variable_filter
        self.promote_dtype = promote_dtype
        scales = {}
        for path, weights in _weights(layer_instance, variable_filter) if use_scale else ():
            g = filter_norms(weights[...], feature_axes=self.feature_axes)
            if scale_init is not None:
                g = scale_init(rngs.params(), g.shape, param_dtype)
            scales[path] = nnx.Param(g.astype(param_dtype))
        self.scales = nnx.data(scales if use_scale else None)

    def __call__(self, x: jax.Array, *args: Any, **kwargs: Any) -> Any:
        """What the layer returns, with its weights normalised."""

        def normalised(path, v):
            g = None if self.scales is None else self.scales[path][...]
            v, g = self.promote_dtype((v, g), dtype=self.dtype)
            return weight_norm(v, g, feature_axes=self.feature_axes, epsilon=self.epsilon)

        return _call(self.layer_instance, self.variable_filter, normalised, x, *args, **kwargs)


class SpectralNorm(nnx.Module):
    """`layer_instance` with weights over their largest singular value: as `flax.nnx.SpectralNorm`.

    Every parameter of two axes or more is normalised, as a matrix of (all other axes) x (last
    axis). State: batch_stats, the vector u (1, last axis) and sigma of each of them by its path.
    Training moves u and sigma; evaluation (`model.eval()`, `nnx.view`) iterates from the stored u
    and keeps it, and so returns the same each time.

    Args:
      n_steps: of power iteration per call. PyTorch makes 15 when the layer is built; here the first
        calls do.
      epsilon: the least norm that a vector of the iteration is divided by.
      error_on_non_matrix: refuses parameters of more than two axes.

    Raises:
      ValueError: n_steps < 1, or a parameter of more than two axes where those are refused.

    Reference: Miyato, Kataoka, Koyama & Yoshida 2018, arXiv:1802.05957.
    """

    def __init__(
        self,
        layer_instance: nnx.Module,
        *,
        n_steps: int = 1,
        epsilon: float = 1e-12,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        error_on_non_matrix: bool = False,
        update_stats: bool = True,
        rngs: nnx.Rngs,
    ):
        self.layer_instance = layer_instance
        self.n_steps = whole(n_steps, "n_steps", "SpectralNorm")
        self.epsilon = epsilon
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.error_on_non_matrix = error_on_non_matrix
        self.use_running_average = not update_stats  # what train(), eval() and nnx.view set
        stats = {}
        for path, weights in _weights(layer_instance, _is_matrix):
            if error_on_non_matrix and weights[...].ndim > 2:
                raise ValueError(
                    "SpectralNorm: parameters must be matrices with error_on_non_matrix; got "
                    f"{'/'.join(map(str, path))} {weights[...].shape}"
                )
            u = nnx.initializers.normal()(rngs.params(), (1, weights[...].shape[-1]), param_dtype)
            stats[*path, "u"] = nnx.BatchStat(u)
            stats[*path, "sigma"] = nnx.BatchStat(jnp.ones((), param_dtype))
        self.batch_stats = nnx.data(stats)

    def __call__(self, x: jax.Array, update_stats: bool | None = None) -> Any:
        """What the layer returns, with its weights normalised."""
        update = not self.use_running_average if update_stats is None else update_stats

        def normalised(path, w):
            u, sigma = self.batch_stats[*path, "u"], self.batch_stats[*path, "sigma"]
            w, new_u, new_sigma = spectral_norm(
                w, u[...].reshape(-1), n_steps=self.n_steps, epsilon=self.epsilon
            )
            if update:
                u[...] = new_u.reshape(1, -1).astype(self.param_dtype)
                sigma[...] = jax.lax.stop_gradient(new_sigma).astype(self.param_dtype)
            return w.astype(self.dtype or w.dtype)

        return _call(self.layer_instance, _is_matrix, normalised, x)

    def set_view(self, use_running_average: bool | None = None) -> None:
        """What `nnx.view(model, use_running_average=...)` calls."""
        if use_running_average is not None:
            self.use_running_average = use_running_average


class WeightStandardized(nnx.Module):
    """`layer_instance` with filters of mean 0 and variance 1.

    Args:
      feature_axes: each of their indices is a filter.
      epsilon: added to the variance.
      variable_filter: which of the layer's parameters are standardised.

    Raises:
      ValueError: when called, axes that the weights don't have.

    Reference: Qiao, Wang, Liu, Shen & Yuille 2019, arXiv:1903.10520.
    """

    def __init__(
        self,
        layer_instance: nnx.Module,
        *,
        feature_axes: Axes = -1,
        epsilon: float = 1e-5,
        variable_filter: nnx.filterlib.Filter = KERNELS,
    ):
        self.layer_instance = layer_instance
        self.feature_axes = feature_axes
        self.epsilon = epsilon
        self.variable_filter = variable_filter

    def __call__(self, x: jax.Array, *args: Any, **kwargs: Any) -> Any:
        """What the layer returns, with its weights standardised."""

        def normalised(path, w):
            return weight_standardize(w, feature_axes=self.feature_axes, epsilon=self.epsilon)

        return _call(self.layer_instance, self.variable_filter, normalised, x, *args, **kwargs)


def _is_matrix(path, variable):
    return variable[...].ndim > 1


def _weights(layer, chosen) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The parameters of a layer that a filter chooses, by their paths."""
    chooses = nnx.filterlib.to_predicate(chosen)
    for path, variable in nnx.to_flat_state(nnx.state(layer, nnx.Param)):
        if chooses(path, variable):
            yield path, variable


def _call(layer, chosen, normalised, *args, **kwargs):
    """The layer called with normalised weights; its own stay, the rest of its state moves."""
    copy = nnx.clone(layer)
    for path, variable in _weights(copy, chosen):
        variable.set_value(normalised(path, variable[...]))
    y = copy(*args, **kwargs)
    moved = nnx.state(copy, nnx.Not(nnx.Param))
    if jax.tree.leaves(moved):
        nnx.update(layer, moved)
    return y
