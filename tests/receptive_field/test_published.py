"""The published table of Araujo et al., row by row."""

import collections

import jax
import pytest

from experiments.receptive_field import slim
from jconv import receptive_field

ROWS = collections.defaultdict(list)
for _row in slim.rows():
    ROWS[_row.network, _row.resolution].append(_row)

# Distill, "Computing receptive fields", table of the last endpoints at 224: size, stride, padding.
DISTILL = {
    "alexnet_v2": (195, 32, 64), "vgg_16": (212, 32, 90), "mobilenet_v1": (315, 32, 126),
    "inception_v2": (699, 32, 318), "inception_v3": (1311, 32, 618),
    "inception_v4": (2071, 32, 998), "inception_resnet_v2": (3039, 32, 1482),
    "resnet_v1_50": (483, 32, 239), "resnet_v1_101": (1027, 32, 511),
    "resnet_v1_152": (1507, 32, 751), "resnet_v1_200": (1763, 32, 879),
}  # fmt: skip


@pytest.mark.parametrize(("network", "resolution"), ROWS)
def test_every_endpoint(network, resolution):
    x = jax.ShapeDtypeStruct((1, resolution, resolution, 1), "float32")
    fields = receptive_field.theoretical(slim.NETWORKS[network], x)
    for row in ROWS[network, resolution]:
        field = fields[row.endpoint]
        found = field.size, field.stride, field.padding
        assert found == tuple((n, n) for n in (row.size, row.stride, row.padding)), row
        # Their library raises where branches are not aligned; it raised for none of these.
        assert field.aligned, field.misaligned
        assert not field.unknown
    if resolution == 224 and network in DISTILL:
        assert (row.size, row.stride, row.padding) == DISTILL[network]


def test_the_table_is_all_there():
    assert sum(map(len, ROWS.values())) == 374
    assert {network for network, _ in ROWS} == set(slim.NETWORKS)
    assert len(ROWS) == 2 * len(slim.NETWORKS)
