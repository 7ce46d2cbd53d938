"""The cases in PyTorch: channels last where PyTorch has that layout, each gradient alone.

Loaded by serve.py; arrays come and go in jconv's layouts, (N, *spatial, C) and (*window, C/G, K).
Sounds (N, C, W) have no channels-last layout in PyTorch and are contiguous; layer norm runs over
the last axis of a contiguous (N, H, W, C), as ConvNeXt's authors write it.
"""

from __future__ import annotations

import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def describe(threads):
    """Sets the number of threads; versions of PyTorch and of the oneDNN inside."""
    torch.set_num_threads(threads)
    words = torch.__config__.show().replace("(", " ").split()
    onednn = next((words[i + 1] for i, word in enumerate(words) if word == "MKL-DNN"), "none")
    return {"torch": str(torch.__version__), "torch's oneDNN": onednn.lstrip("v")}


def arrays(results):
    """Results as NumPy arrays by position; bfloat16, which NumPy does not know, as float32."""
    return {str(i): result.detach().float().numpy() for i, result in enumerate(results)}


def operation(operands, case, which):
    """The function that computes the pass `which` of a case, given as the fields of `Case`."""
    dtype = getattr(torch, case["dtype"])
    tensors = [torch.from_numpy(array).to(dtype) for array in operands]
    if case["op"] in ("conv", "conv_transpose"):
        return _convolution(case, which, *tensors)
    return _with_backward(case, which, tensors)


def _image(x):
    """(N, *spatial, C) as (N, C, *spatial), in the layout that PyTorch is fast in."""
    x = x.movedim(-1, 1)
    return x.contiguous(memory_format=FORMATS.get(x.ndim, torch.contiguous_format))


def _back(y):
    return y.movedim(1, -1)


def _convolution(case, which, first, second):
    axes = first.ndim - 2
    options = (
        [case["stride"]] * axes, [case["padding"]] * axes, [case["dilation"]] * axes,
        case["op"] == "conv_transpose", [0] * axes, case["groups"],
    )  # fmt: skip
    if which == "fwd":
        x, w = _image(first), _filter(second)
        return lambda: (_back(torch.ops.aten.convolution(x, w, None, *options)),)
    wanted = [which == "dx", which == "dw", False]
    if which == "dx":
        dy, w = _image(first), _filter(second)
        x = _image(torch.empty(case["x"], dtype=dy.dtype))
    else:
        x, dy = _image(first), _image(second)
        w = _filter(torch.empty(case["w"], dtype=dy.dtype))

    def gradient():
        grads = torch.ops.aten.convolution_backward(dy, x, w, None, *options, wanted)
        return (_back(grads[0]) if which == "dx" else grads[1].movedim((0, 1), (-1, -2)),)

    return gradient


def _filter(w):
    """(*window, C/G, K) as (K, C/G, *window), which a transposed convolution takes too."""
    w = w.movedim((-1, -2), (0, 1))
    return w.contiguous(memory_format=FORMATS.get(w.ndim, torch.contiguous_format))


def _with_backward(case, which, tensors):
    op = case["op"]
    as_it_is = (lambda x: x, lambda y: y)
    image, back = as_it_is if op == "layer_norm" else (_image, _back)
    x, *parameters = tensors
    dy = image(parameters.pop()) if which == "full" else None
    given = [image(x), *parameters]

    def forward(x, *parameters):
        if op in ("max_pool", "avg_pool"):
            pool = F.max_pool2d if op == "max_pool" else F.avg_pool2d
            return pool(x, case["window"], case["stride"], case["padding"])
        if op == "batch_norm":
            return F.batch_norm(x, None, None, *parameters, training=True)
        if op == "layer_norm":
            return F.layer_norm(x, x.shape[-1:], *parameters)
        return F.group_norm(x, case["groups"], *parameters)

    if dy is None:

        def alone():
            with torch.no_grad():
                return (back(forward(*given)),)

        return alone
    for tensor in given:
        tensor.requires_grad_()

    def full():
        y = forward(*given)
        dx, *others = torch.autograd.grad(y, given, dy)
        return back(y), back(dx), *others

    return full
