"""Implementations chosen by measurement, on the machine that runs them.

    print(jconv.tune(train_step, state, batch))  # times every implementation, and writes a file
    with jconv.tuned():                          # which is followed where one asks for it
        state = train_step(state, batch)

The choice itself is made in `jconv.core`, by the table, by a file, or by name.
"""

from jconv.tuning.file import default_file as default_file
from jconv.tuning.file import tuned as tuned
from jconv.tuning.measure import Contender as Contender
from jconv.tuning.measure import Measurement as Measurement
from jconv.tuning.tuner import Report as Report
from jconv.tuning.tuner import tune as tune
