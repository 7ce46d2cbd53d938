"""Receptive fields of any JAX function: which input pixels an output depends on, and how much."""

from jconv.receptive_field.confidence import Interval as Interval
from jconv.receptive_field.confidence import bootstrap as bootstrap
from jconv.receptive_field.effective import gradient_maps as gradient_maps
from jconv.receptive_field.exact import ExactField as ExactField
from jconv.receptive_field.exact import exact as exact
from jconv.receptive_field.field import ReceptiveField as ReceptiveField
from jconv.receptive_field.measures import AreaRatios as AreaRatios
from jconv.receptive_field.measures import Gaussian as Gaussian
from jconv.receptive_field.measures import area as area
from jconv.receptive_field.measures import area_ratios as area_ratios
from jconv.receptive_field.measures import gaussian_field as gaussian_field
from jconv.receptive_field.measures import gaussian_fit as gaussian_fit
from jconv.receptive_field.measures import moments as moments
from jconv.receptive_field.measures import radius as radius
from jconv.receptive_field.objectives import radius_loss as radius_loss
from jconv.receptive_field.objectives import shape_loss as shape_loss
from jconv.receptive_field.table import table as table
from jconv.receptive_field.theoretical import theoretical as theoretical
