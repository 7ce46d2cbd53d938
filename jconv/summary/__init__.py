"""What each layer of a network returns, sees, holds and costs, from shapes alone."""

from jconv.summary.multiply_adds import multiply_adds as multiply_adds
from jconv.summary.receptive_fields import endpoints_of as endpoints_of
from jconv.summary.receptive_fields import receptive_fields as receptive_fields
from jconv.summary.table import Row as Row
from jconv.summary.table import Summary as Summary
from jconv.summary.trace import summarize as summarize
