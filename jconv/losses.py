"""Losses: pure functions of scores and targets, channels last, in float32 or wider.

Each has `reduction="mean" | "sum" | "none"` and a `mask` of the positions that count: the others
have loss 0 and gradient 0 whatever they hold, and no part in the mean.
"""

from jconv.ops.losses.cross_entropy import sigmoid_cross_entropy as sigmoid_cross_entropy
from jconv.ops.losses.cross_entropy import softmax_cross_entropy as softmax_cross_entropy
from jconv.ops.losses.dice import dice as dice
from jconv.ops.losses.focal import sigmoid_focal as sigmoid_focal
from jconv.ops.losses.focal import softmax_focal as softmax_focal
from jconv.ops.losses.regression import huber as huber
from jconv.ops.losses.regression import mae as mae
from jconv.ops.losses.regression import mse as mse
