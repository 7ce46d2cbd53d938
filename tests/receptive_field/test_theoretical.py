"""Theoretical fields: of every kind of operation, transformation and library."""

from __future__ import annotations

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax import lax
from jax.sharding import PartitionSpec as P

import jconv
from jconv import models
from jconv.receptive_field import ReceptiveField, exact, theoretical
from jconv.summary import receptive_fields
from tests.receptive_field.cases import CASES, W, X, conv


@pytest.mark.parametrize("name", CASES)
def test_cases(name):
    case = CASES[name]
    field = theoretical(case.fn, X)
    assert (field.size, field.stride) == ((case.size,) * 2, (case.stride,) * 2)
    assert field.padding == (case.padding,) * 2
    assert field.offset == (-case.padding,) * 2
    assert not field.unknown


def test_fields_of_a_pytree_and_of_one_axis():
    fields = theoretical(lambda x: {"b": (conv(x), x.sum()), "a": jnp.ones(3)}, X, axes=-2)
    assert fields["b"][0].size == (3,)
    assert fields["b"][0].along == (2,)
    assert fields["b"][1].size == (24,)
    assert fields["b"][1].along == (None,)
    nothing = fields["a"]
    assert (nothing.size, nothing.stride, nothing.span(0)) == ((0,), (0,), (None,))


def test_axes_differ():
    field = theoretical(lambda x: jconv.conv(x, jnp.ones((5, 1, 4, 4)), stride=(1, 2)), X)
    assert (field.size, field.stride, field.padding) == ((5, 1), (1, 2), (2, 0))
    assert field.along == (1, 2)


def test_where_the_field_lies():
    field = theoretical(lambda x: conv(x, stride=2, padding=1), X)
    assert field.centre == (0, 0)
    assert field.span(0, 3) == ((-1, 1), (5, 7))
    upsampled = theoretical(lambda x: conv(jconv.resize(x, (48, 48))), X)
    assert upsampled.size == (2, 2)
    assert [upsampled.span(i, i)[0] for i in range(3)] == [(-1, 0), (0, 1), (0, 1)]
    assert upsampled.centre[0] + Fraction(1, 4) == 0


def test_misaligned_branches_are_reported():
    field = theoretical(lambda x: jconv.max_pool(x, 2) + conv(x, stride=2), X)
    assert not field.aligned
    assert field.misaligned == ("add: centres 1/2 apart",)
    with jax.named_scope("x"):
        field = theoretical(lambda x: jconv.max_pool(x, 2)[:, :9] + x[:, :9, :12], X)
    assert "strides 2 and 1" in field.misaligned[0]
    # Branches with one centre, and one that sees everything, are aligned.
    field = theoretical(lambda x: (x + conv(x)) * jax.nn.sigmoid(x.mean((1, 2))), X)
    assert field.aligned


def test_what_no_rule_knows_reads_everything_and_is_named():
    field = theoretical(lambda x: conv(lax.linalg.cholesky(x[..., 0])[..., None] * jnp.ones(4)), X)
    assert field.unknown == ("cholesky",)
    assert field.size == (24, 24)
    # Equal shapes do not make an operation pointwise.
    assert theoretical(lambda x: lax.associative_scan(jnp.add, x, axis=1), X).size == (24, 1)


def test_weights_do_not_matter():
    zeros = jnp.zeros((3, 3, 4, 4))
    assert theoretical(lambda x: jconv.conv(x, zeros), X).size == (3, 3)
    dense = jnp.zeros((24 * 24 * 4, 2))
    assert theoretical(lambda x: x.reshape(1, -1) @ dense, X).size == (24, 24)
    weights = jax.ShapeDtypeStruct((3, 3, 4, 4), "float32")
    assert theoretical(lambda x, w: jconv.conv(x, w), X, weights).size == (3, 3)
    # A filter that is made of the image reads what it is made of.
    filters = theoretical(lambda x: jconv.conv(x, x[:, :3, :3, :, None].sum(0) * jnp.ones(4)), X)
    assert filters.span(20, 20) == ((0, 21), (0, 21))


def test_loops_that_the_input_decides():
    def doubled(x):
        return lax.while_loop(lambda c: c.sum() < 100, lambda c: c * 2, x)

    field = theoretical(doubled, X)
    assert field.size == (24, 24)
    grows = theoretical(
        lambda x: lax.while_loop(lambda c: c[0] < 9, lambda c: (c[0] + 1, conv(c[1])), (0, x))[1], X
    )
    assert (grows.size, grows.unknown) == ((24, 24), ("while",))
    still = theoretical(
        lambda x: lax.while_loop(lambda c: c[0] < 9, lambda c: (c[0] + 1, c[1] * 2), (0, x))[1], X
    )
    assert (still.size, still.unknown) == ((1, 1), ())
    either = theoretical(lambda x: lax.cond(x.sum() > 0, lambda v: v, conv, x), X)
    assert either.size == (24, 24)


def test_a_recurrence_along_an_axis():
    def last_to_first(x):
        lines = jnp.moveaxis(x, 1, 0)
        _, y = lax.scan(lambda c, v: (c + v, c + v), jnp.zeros_like(lines[0]), lines, reverse=True)
        return jnp.moveaxis(y, 0, 1)

    field = theoretical(last_to_first, X)
    assert field.span(7, 7) == ((7, 23), (7, 7))


def test_long_scans_are_widened(monkeypatch):
    monkeypatch.setattr("jconv.receptive_field.loops.MOST_EQUATIONS", 2)

    def twice(x):
        return lax.scan(lambda c, _: (conv(c), c * 2), x, None, length=2)[0]

    assert theoretical(twice, X).unknown == ("scan",)
    assert theoretical(lambda x: lax.map(lambda v: v * 2 + 1, x), X).size == (1, 1)


@pytest.mark.devices
def test_shard_map():
    mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    x = jax.ShapeDtypeStruct((2, 24, 24, 4), "float32")
    by_example = jax.shard_map(conv, mesh=mesh, in_specs=P("d"), out_specs=P("d"))
    assert theoretical(by_example, x).size == (3, 3)
    by_rows = jax.shard_map(
        lambda v: conv(v), mesh=mesh, in_specs=P(None, "d"), out_specs=P(None, "d")
    )
    assert theoretical(by_rows, x).size == (24, 3)


def test_flax():
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.relu(linen.Conv(4, (5, 5), strides=2, padding="VALID")(x))
            return linen.max_pool(x, (2, 2), (2, 2))

    weights = jax.eval_shape(Net().init, jax.random.key(0), X)
    field = theoretical(lambda x, w: Net().apply(w, x), X, weights)
    assert (field.size, field.stride, field.padding) == ((7, 7), (4, 4), (0, 0))
    stock = nnx.Conv(4, 4, (3, 3), kernel_dilation=2, rngs=nnx.Rngs(0))
    assert theoretical(stock, X).size == (5, 5)


def test_models():
    def fields(name, side):
        make = models.MODELS[name]
        model = nnx.eval_shape(
            lambda: make(classes=10, input_shape=(side, side, 3), rngs=nnx.Rngs(0))
        )
        model.eval()
        return receptive_fields(model, jax.ShapeDtypeStruct((1, side, side, 3), "float32"))

    found = fields("resnet50", 224)
    assert list(found)[:2] == ["conv1", "layer1"]
    # Without TF-Slim's strides in last units: 35, 91, 267 and 427 (torchvision's ResNet-50).
    assert [found[f"layer{i}"].size[0] for i in range(1, 5)] == [35, 91, 267, 427]
    assert found["layer4"].stride == (32, 32)
    assert found["logits"].size == (224, 224)
    # In a net of stride-1 windows of 3, 1 + 2 L; the ResNet's last strides are 2.
    assert fields("resnet20", 32)["conv1"].size == (3, 3)
    small, large = fields("resnet20", 96), fields("resnet20", 192)
    assert small["layer3"].size == large["layer3"].size == (81, 81)


def test_u_net_is_independent_of_resolution():
    def field(side):
        model = nnx.eval_shape(
            lambda: models.UNet(
                classes=2, input_shape=(side, side, 1), padding="SAME", rngs=nnx.Rngs(0)
            )
        )
        model.eval()
        found = receptive_fields(model, jax.ShapeDtypeStruct((1, side, side, 1), "float32"))
        last = list(found.values())[-1]
        return last.size, last.stride

    assert field(256) == field(512)


def test_pool_rules_agree_with_the_definitions():
    """Of the winners' operations the rule is the window's; here is what their taps say."""
    from jconv.ops import tied, winner

    window = jconv.window.Window.of((12, 12), 3, stride=2, padding=1)
    image = jax.ShapeDtypeStruct((1, 12, 12, 1), "float32")
    y = jax.ShapeDtypeStruct((1, *window.output, 1), "float32")
    tap = jax.ShapeDtypeStruct(y.shape, "uint8")
    for operation, args in (
        (winner.take, (image, tap)),
        (winner.put, (y, tap)),
        (tied.take_equal, (image, image, y)),
        (tied.put_equal, (y, image, y)),
    ):
        shifted = {row.name: row.body for row in operation.table}["shifted"]
        for k, given in enumerate(args):

            def reads(fn, k=k, given=given, args=args):
                def one(value, *others):
                    operands = [*others[:k], value, *others[k:]]
                    return fn(*operands, window=window, dtype=jnp.dtype("float32"))

                others = (*args[:k], *args[k + 1 :])
                return exact(one, given, *others)[...]

            by_rule, by_taps = reads(operation), reads(shifted)
            # The adjoints of the taps read a window more than hold a pixel.
            assert not (by_rule & ~by_taps).any(), (operation.name, k)
            if given.shape == image.shape:
                assert np.array_equal(by_rule, by_taps), (operation.name, k)


def test_the_rule_of_the_adjoint_misses_nothing():
    from jconv.ops import winner

    window = jconv.window.Window.of((12,), 3, stride=2, padding=1, dilation=2)
    images = jax.random.normal(jax.random.key(0), (20, 1, 12, 1))
    y = jax.ShapeDtypeStruct((1, *window.output, 1), "float32")

    def put(dy, tap):
        return winner.put(dy, tap, window=window, dtype=jnp.dtype("float32"))

    def moved(image):
        _, tap = winner.largest_and_tap(image, window=window)
        return jax.jacobian(lambda dy: put(dy, tap))(jnp.ones(y.shape)).reshape(12, -1) != 0

    seen = np.asarray(jax.vmap(moved)(images)).any(0)
    rule = exact(put, y, jax.ShapeDtypeStruct(y.shape, "uint8"), axes=1)[0, :, 0]
    assert np.array_equal(seen, rule)


@pytest.mark.parametrize(
    ("x", "axes", "message"),
    [
        ((X, X), 1, r"theoretical: x must be an array or a jax\.ShapeDtypeStruct; got \("),
        (
            X,
            4,
            r"theoretical: axes must be different axes of x, none of extent 0; got axes 4, x \(",
        ),
        (X, (1, -3), "different axes"),
        (X, (), "different axes"),
        (jax.ShapeDtypeStruct((1, 0, 3), "float32"), 1, "none of extent 0"),
    ],
)
def test_messages(x, axes, message):
    with pytest.raises(ValueError, match=message):
        theoretical(lambda v: v, x, axes=axes)


def test_models_need_images():
    with pytest.raises(ValueError, match=r"receptive_fields: x must be an array \(N, H, W, C\)"):
        receptive_fields(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), jnp.ones((1, 2)))


def test_no_array_is_computed():
    def refuse(*args):
        raise AssertionError("computed")

    def fn(x):
        y = jnp.sum(conv(x))
        return jax.pure_callback(refuse, jax.ShapeDtypeStruct((), "float32"), y)

    field = theoretical(fn, X)
    assert isinstance(field, ReceptiveField)
    assert field.unknown == ("pure_callback",)
    assert np.shape(W) == (3, 3, 4, 4)
