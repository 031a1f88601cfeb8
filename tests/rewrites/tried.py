"""The rewrites: each gives an equal graph, up to float32 rounding, of an exported ResNet50 or MobileNetV3-Large."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from onnx import NodeProto

from reid_edge.export.graph.graph import Graph, attribute

from .draft import Draft, node

__all__ = ["TRIED"]


def scale_in_the_first_convolution(graph: Graph) -> Graph:
    """``W ((x - mean) / std) = (W / std) (x - mean)``.

    The mean must stay: the first convolution pads with zeros after it is subtracted, so that a bias in its place would
    be wrong along the border.
    """
    draft = Draft(graph)
    divide = next(each for each in graph.nodes if each.op_type == "Div")
    (conv,) = graph.consumers[divide.output[0]]
    std = graph.constants[divide.input[1]].reshape(1, 3, 1, 1)
    weight = draft.constant(f"{conv.input[1]}.scaled", draft.weight(conv) / std)
    scaled = node("Conv", [divide.input[0], weight, *conv.input[2:]], conv.output[0])
    scaled.attribute.extend(conv.attribute)
    draft.replace([divide, conv], [scaled])
    return draft.done()


def norm_by_one_operator(graph: Graph) -> Graph:
    """The L2 norm at the end as one LpNormalization, in place of Mul, ReduceSum, Sqrt, Clip and Div."""
    draft = Draft(graph)
    last = graph.nodes[-5:]
    assert [each.op_type for each in last] == ["Mul", "ReduceSum", "Sqrt", "Clip", "Div"]
    draft.replace(list(last), [node("LpNormalization", [last[0].input[0]], last[-1].output[0], axis=1, p=2)])
    return draft.done()


def means_by_global_pooling(graph: Graph) -> Graph:
    """GlobalAveragePool in place of ReduceMean over both axes of a map."""
    draft = Draft(graph)
    for mean in [each for each in graph.nodes if each.op_type == "ReduceMean"]:
        output = mean.output[0]
        pooled = output if attribute(mean, "keepdims", 1) else f"{output}_pooled"
        new = [node("GlobalAveragePool", [mean.input[0]], pooled)]
        if pooled != output:
            new.append(node("Flatten", [pooled], output, axis=1))
        draft.replace([mean], new)
    return draft.done()


def shortcut_in_the_last_convolution(graph: Graph) -> Graph:
    """``W3 y + Wd x = [W3 Wd] [y; x]``: a stage's projected shortcut within the last convolution of its first block."""
    draft = Draft(graph)
    for shortcut in _shortcuts(graph):
        (add,) = graph.consumers[shortcut.output[0]]
        conv = next(graph.producers[value] for value in add.input if value != shortcut.output[0])
        name, x = shortcut.output[0], shortcut.input[0]
        new = []
        if (stride := attribute(shortcut, "strides", [1, 1])[0]) > 1:
            bounds = {"starts": [0, 0], "ends": [2**31 - 1] * 2, "axes": [2, 3], "steps": [stride] * 2}
            names = [draft.constant(f"{name}_{key}", np.array(value)) for key, value in bounds.items()]
            new.append(node("Slice", [x, *names], f"{name}_strided"))
            x = f"{name}_strided"
        both = np.concatenate([draft.weight(conv), draft.weight(shortcut)], axis=1)
        weight = draft.constant(f"{name}_weight", both)
        bias = draft.constant(f"{name}_bias", draft.bias(conv) + draft.bias(shortcut))
        new.append(node("Concat", [conv.input[0], x], f"{name}_both", axis=1))
        new.append(node("Conv", [f"{name}_both", weight, bias], add.output[0]))
        draft.replace([shortcut, conv, add], new)
    return draft.done()


def shortcut_beside_the_first_convolution(graph: Graph) -> Graph:
    """Both read the block's input: one convolution, where strides agree, with a ReLU for a part of its channels."""
    draft = Draft(graph)
    for shortcut in _shortcuts(graph):
        conv = next(each for each in graph.consumers[shortcut.input[0]] if each is not shortcut)
        if attribute(shortcut, "strides", [1, 1]) != attribute(conv, "strides", [1, 1]):
            continue
        (relu,) = graph.consumers[conv.output[0]]
        name, sizes = shortcut.output[0], [len(draft.weight(conv)), len(draft.weight(shortcut))]
        both = np.concatenate([draft.weight(conv), draft.weight(shortcut)])
        weight = draft.constant(f"{name}_weight", both)
        bias = draft.constant(f"{name}_bias", np.concatenate([draft.bias(conv), draft.bias(shortcut)]))
        slope = draft.constant(f"{name}_slope", np.repeat([0.0, 1.0], sizes)[:, None, None])
        parts = node(
            "Split", [f"{name}_relu", draft.constant(f"{name}_sizes", np.array(sizes))], relu.output[0], axis=1
        )
        parts.output.append(name)
        new = [node("Conv", [conv.input[0], weight, bias], f"{name}_conv")]
        new += [node("PRelu", [f"{name}_conv", slope], f"{name}_relu"), parts]
        earlier, later = sorted((relu, shortcut), key=list(graph.nodes).index)
        draft.replace([conv, later, earlier], new)
    return draft.done()


def gates_as_matmuls(graph: Graph) -> Graph:
    """The two convolutions of squeeze-and-excitation, which see one pixel, as Gemm on vectors."""
    draft = Draft(graph)
    for mean, conv1, relu, conv2, sigmoid in _gates(graph):
        name = mean.output[0]
        matrices = []
        for place, conv in enumerate((conv1, conv2)):
            matrices.append(draft.constant(f"{name}_matrix{place}", draft.weight(conv)[:, :, 0, 0].T))
            matrices.append(draft.constant(f"{name}_bias{place}", draft.bias(conv)))
        draft.replace(
            [mean, conv1, relu, conv2, sigmoid],
            [
                node("ReduceMean", list(mean.input), f"{name}_vector", keepdims=0),
                node("Gemm", [f"{name}_vector", *matrices[:2]], f"{name}_step1"),
                node("Relu", [f"{name}_step1"], f"{name}_step2"),
                node("Gemm", [f"{name}_step2", *matrices[2:]], f"{name}_step3"),
                node("HardSigmoid", [f"{name}_step3"], f"{name}_step4", alpha=1 / 6),
                node(
                    "Unsqueeze", [f"{name}_step4", draft.constant(f"{name}_axes", np.array([2, 3]))], sigmoid.output[0]
                ),
            ],
        )
    return draft.done()


def gates_as_sums(graph: Graph) -> Graph:
    """The same as products and sums, which a builder could generate one kernel of."""
    draft = Draft(graph)
    for mean, conv1, relu, conv2, sigmoid in _gates(graph):
        name = mean.output[0]
        first = draft.constant(f"{name}_first", draft.weight(conv1)[:, :, 0, 0].T[None, :, :, None])  # [1, C, S, 1]
        second = draft.constant(f"{name}_second", draft.weight(conv2)[:, :, 0, 0][None, :, :, None])
        plus = draft.constant(f"{name}_plus", draft.bias(conv1)[None, None, :, None])
        last = draft.constant(f"{name}_last", draft.bias(conv2)[None, :, None, None])
        axes = [draft.constant(f"{name}_axis{axis}", np.array([axis])) for axis in (1, 2)]
        draft.replace(
            [conv1, relu, conv2, sigmoid],
            [
                node("Mul", [name, first], f"{name}_step1"),
                node("ReduceSum", [f"{name}_step1", axes[0]], f"{name}_step2"),  # [N, 1, S, 1]
                node("Add", [f"{name}_step2", plus], f"{name}_step3"),
                node("Relu", [f"{name}_step3"], f"{name}_step4"),
                node("Mul", [f"{name}_step4", second], f"{name}_step5"),
                node("ReduceSum", [f"{name}_step5", axes[1]], f"{name}_step6"),  # [N, C, 1, 1]
                node("Add", [f"{name}_step6", last], f"{name}_step7"),
                node("HardSigmoid", [f"{name}_step7"], sigmoid.output[0], alpha=1 / 6),
            ],
        )
    return draft.done()


def clipped_gates(graph: Graph) -> Graph:
    """The scale and shift of the hard sigmoid within the convolution before it, and a Clip to 0..1."""
    draft = Draft(graph)
    ends = [draft.constant("gate_low", np.float32(0)), draft.constant("gate_high", np.float32(1))]
    for _, _, _, conv, sigmoid in _gates(graph):
        name = conv.output[0]
        weight = draft.constant(f"{name}_weight", draft.weight(conv) / 6)
        bias = draft.constant(f"{name}_bias", draft.bias(conv) / 6 + 0.5)
        new = [node("Conv", [conv.input[0], weight, bias], name), node("Clip", [name, *ends], sigmoid.output[0])]
        draft.replace([conv, sigmoid], new)
    return draft.done()


def gates_in_the_projection(graph: Graph) -> Graph:
    """``W (g * x) = (W * g) x``: the gate scales the weights of the 1x1 convolution after it, as a batched matmul."""
    draft = Draft(graph)
    for *_, sigmoid in _gates(graph):
        (multiply,) = graph.consumers[sigmoid.output[0]]
        (conv,) = graph.consumers[multiply.output[0]]
        x = next(value for value in multiply.input if value != sigmoid.output[0])
        name = conv.output[0]
        shapes = {"row": [0, 1, -1], "flat": [0, 0, -1], "map": [0, 0, *map(int, graph.shapes[x][2:])]}  # type: ignore[arg-type]
        row, flat, area = (draft.constant(f"{name}_{key}", np.array(value)) for key, value in shapes.items())
        weight = draft.constant(f"{name}_weight", draft.weight(conv)[None, :, :, 0, 0])  # [1, O, C]
        bias = draft.constant(f"{name}_bias", draft.bias(conv)[None, :, None, None])
        draft.replace(
            [multiply, conv],
            [
                node("Reshape", [sigmoid.output[0], row], f"{name}_step1"),
                node("Mul", [weight, f"{name}_step1"], f"{name}_step2"),  # [N, O, C]
                node("Reshape", [x, flat], f"{name}_step3"),  # [N, C, h w]
                node("MatMul", [f"{name}_step2", f"{name}_step3"], f"{name}_step4"),
                node("Reshape", [f"{name}_step4", area], f"{name}_step5"),
                node("Add", [f"{name}_step5", bias], name),
            ],
        )
    return draft.done()


def projections_in_expansions_with_fewer_bytes(graph: Graph) -> Graph:
    """The next, where one crop's map that is no longer written and read is larger than what the weights grow by."""
    return projections_in_expansions(graph, only_fewer_bytes=True)


def projections_in_expansions(graph: Graph, only_fewer_bytes: bool = False) -> Graph:
    """``We (Wp z + x) = [We Wp, We] [z; x]`` where only the next block's expansion reads a block's output."""
    draft = Draft(graph)
    for expand in [each for each in graph.nodes if each.op_type == "Conv" and _is_1x1(draft, each)]:
        add = graph.producers.get(expand.input[0])
        if add is None or add.op_type != "Add" or len(graph.consumers[add.output[0]]) > 1:
            continue
        before = [graph.producers[value] for value in add.input]
        project = next(each for each in before if each.op_type == "Conv" and len(graph.consumers[each.output[0]]) == 1)
        x = next(value for value in add.input if value != project.output[0])
        name = expand.output[0]
        out, inner = draft.weight(expand)[:, :, 0, 0], draft.weight(project)[:, :, 0, 0]
        both = np.concatenate([out @ inner, out], axis=1)
        map_size = np.prod([size or 1 for size in graph.shapes[add.output[0]]])
        if only_fewer_bytes and both.size - out.size - inner.size > 2 * map_size:
            continue
        weight = draft.constant(f"{name}_weight", both[:, :, None, None])
        bias = draft.constant(f"{name}_bias", out @ draft.bias(project) + draft.bias(expand))
        new = [node("Concat", [project.input[0], x], f"{name}_both", axis=1)]
        draft.replace([project, add, expand], [*new, node("Conv", [f"{name}_both", weight, bias], name)])
    return draft.done()


def _shortcuts(graph: Graph) -> list[NodeProto]:
    return [each for each in graph.nodes if each.op_type == "Conv" and ".downsample." in each.input[1]]


def _gates(graph: Graph) -> Iterator[list[NodeProto]]:
    """Mean, convolution, ReLU, convolution and hard sigmoid of each squeeze-and-excitation."""
    for mean in [each for each in graph.nodes if each.op_type == "ReduceMean"]:
        found = [mean]
        while len(found) < 5:
            found.append(graph.consumers[found[-1].output[0]][0])
        if [each.op_type for each in found[1:]] == ["Conv", "Relu", "Conv", "HardSigmoid"]:
            yield found


def _is_1x1(draft: Draft, conv: NodeProto) -> bool:
    return attribute(conv, "group", 1) == 1 and draft.weight(conv).shape[2:] == (1, 1)


_BOTH: tuple[Callable[[Graph], Graph], ...] = (
    scale_in_the_first_convolution,
    norm_by_one_operator,
    means_by_global_pooling,
)
TRIED: dict[str, tuple[Callable[[Graph], Graph], ...]] = {
    "resnet50_bot": (*_BOTH, shortcut_in_the_last_convolution, shortcut_beside_the_first_convolution),
    "mobilenetv3_large": (
        *_BOTH,
        gates_as_matmuls,
        gates_as_sums,
        clipped_gates,
        gates_in_the_projection,
        projections_in_expansions,
        projections_in_expansions_with_fewer_bytes,
    ),
    "osnet_x0_25": (),
}
"""By architecture; none of the streams of OSNet, which another pass merges."""
