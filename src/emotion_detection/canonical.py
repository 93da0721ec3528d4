"""Equal computations as equal ONNX bytes.

tf2onnx numbers names and orders nodes by iterating over sets, so no two conversions of one model give the same file.
Here every value is known by its key, a hash of what computes it: operator, attributes and the keys of its inputs.
Values of equal keys become one, and nodes are ordered and named by their keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import onnx

Node = onnx.NodeProto
Place = tuple[int, str]  # depth below the inputs, then key: sorts inputs of a node before it


def canonical(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same computation in canonical form.

    A graph with branches or loops is returned as it is: their bodies may use any outer name.
    """
    graph = model.graph
    if any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute):
        return model
    weights = {_tensor_key(tensor): tensor for tensor in graph.initializer}
    keys = {"": ""} | {value.name: value.name for value in graph.input}
    keys |= {tensor.name: _tensor_key(tensor) for tensor in graph.initializer}
    nodes = _placed(graph.node, keys)
    names = _names(weights, nodes, keys) | {keys[value.name]: value.name for value in [*graph.input, *graph.output]}

    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.graph.ClearField("value_info")
    del result.graph.initializer[:], result.graph.node[:]
    for key, tensor in sorted(weights.items()):
        result.graph.initializer.add().CopyFrom(tensor)
        result.graph.initializer[-1].name = names[key]
    for number, (_, node) in enumerate(sorted(nodes.items(), key=lambda item: item[0])):
        result.graph.node.append(_renamed(node, f"{node.op_type}_{number}", keys, names))
    return result


def _placed(nodes: Sequence[Node], keys: dict[str, str]) -> dict[Place, Node]:
    """Nodes by place, without duplicates; adds the keys of their outputs to `keys`."""
    depths: dict[str, int] = {}
    placed: dict[Place, Node] = {}
    for node in nodes:  # ONNX wants the inputs of a node before it
        depth = 1 + max((depths.get(value, 0) for value in node.input), default=0)
        key = _node_key(node, keys)
        placed[depth, key] = node
        depths |= dict.fromkeys(node.output, depth)
        keys |= {value: f"{key}:{index}" for index, value in enumerate(node.output) if value}
    return placed


def _names(weights: Mapping[str, object], nodes: Mapping[Place, Node], keys: Mapping[str, str]) -> dict[str, str]:
    """New names by key."""
    names = {"": ""} | {key: f"weight_{number}" for number, key in enumerate(sorted(weights))}
    for number, place in enumerate(sorted(nodes)):
        for index, value in enumerate(nodes[place].output):
            if value:
                names[keys[value]] = f"{nodes[place].op_type}_{number}_{index}"
    return names


def _renamed(node: Node, name: str, keys: Mapping[str, str], names: Mapping[str, str]) -> Node:
    result = Node(op_type=node.op_type, domain=node.domain, name=name)
    result.input.extend(names[keys[value]] for value in node.input)
    result.output.extend(names[keys[value]] for value in node.output)
    result.attribute.extend(sorted(node.attribute, key=lambda attribute: attribute.name))
    return result


def _tensor_key(tensor: onnx.TensorProto) -> str:
    unnamed = onnx.TensorProto()
    unnamed.CopyFrom(tensor)
    unnamed.ClearField("name")
    return hashlib.sha256(unnamed.SerializeToString(deterministic=True)).hexdigest()


def _node_key(node: Node, keys: Mapping[str, str]) -> str:
    words = [node.domain, node.op_type, *(keys[value] for value in node.input)]
    attributes = sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute)
    return hashlib.sha256(repr((words, attributes, len(node.output))).encode()).hexdigest()
