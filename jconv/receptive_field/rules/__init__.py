"""What each operation reads, by its name in a jaxpr: one table for both domains.

`rule(domain, call)` returns the dependency of the result in the words of the domain, None where it
reads nothing, a list where an operation has several results, `NotImplemented` where it is used in
a way that the rule does not know.
"""

from jconv.receptive_field.rules import indices, pointwise, pools, products, shapes

RULES = {
    **pointwise.RULES,
    **shapes.RULES,
    **indices.RULES,
    **products.RULES,
    **pools.RULES,
}
