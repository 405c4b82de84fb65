"""NIR graphs for tests, in float64: reads and writes files, draws random graphs, and steps a graph node by node.

It shares no code with the program, and it multiplies out nothing: every node gives its value in every step.
"""
import h5py
import numpy as np

POPULATIONS = ("LIF", "CubaLIF", "LI", "I", "Threshold")


def read(path):
    """{"nodes": {name: {"type", parameters...}}, "edges": [(source, target)]}; nested graphs as nodes."""
    def text(value):
        return value.decode() if isinstance(value, bytes) else str(value)

    def graph(group):
        nodes = {}
        for name, node in group["nodes"].items():
            kind = text(node["type"][()])
            nodes[name] = dict(type=kind, **(graph(node) if kind == "NIRGraph" else {
                key: value[()] for key, value in node.items() if key not in ("type", "metadata")}))
        return dict(nodes=nodes, edges=[(text(a), text(b)) for a, b in group["edges"][()]])

    with h5py.File(path) as file:
        return graph(file["node"])


def write(path, graph, fixed=False):
    """fixed: texts of fixed length, as some programs write them."""
    kind = np.bytes_ if fixed else str
    text = {} if fixed else dict(dtype=h5py.string_dtype())

    def put(group, graph):
        group.create_dataset("type", data=kind("NIRGraph"), **text)
        edges = np.array(graph["edges"], "S" if fixed else object).reshape(-1, 2)
        group.create_dataset("edges", data=edges, **text)
        nodes = group.create_group("nodes")
        for name, node in graph["nodes"].items():
            place = nodes.create_group(name)
            if node["type"] == "NIRGraph":
                put(place, node)
                continue
            place.create_dataset("type", data=kind(node["type"]), **text)
            for key, value in node.items():
                if key == "metadata":
                    for word, what in value.items():
                        place[f"metadata/{word}"] = what
                elif key != "type":
                    place[key] = np.asarray(value)

    with h5py.File(path, "w") as file:
        file.create_dataset("version", data=kind("1.0.8"), **text)
        put(file.create_group("node"), graph)
    return path


def flat(graph, prefix=""):
    """Nodes a.b for node b of the nested graph a, and edges."""
    nodes, edges, ports = {}, [], {}
    for name, node in graph["nodes"].items():
        if node["type"] != "NIRGraph":
            nodes[prefix + name] = node
            continue
        inner, more = flat(node, f"{prefix}{name}.")
        for kind, side in (("Input", 1), ("Output", 0)):
            port = next(key for key, value in inner.items() if value["type"] == kind)
            inner[port] = dict(type="Identity")
            ports[prefix + name, side] = port
        nodes.update(inner)
        edges += more
    for edge in graph["edges"]:
        edges.append(tuple(ports.get((prefix + name, side), prefix + name) for side, name in enumerate(edge)))
    return nodes, edges


def step(graph, x, dt=1e-4, reset="zero", integration="euler"):
    """x [T, B, M] -> {population: spikes [T, B, n] (LI: membrane), "output": what reaches the output}.

    In every step a CubaLIF takes I <- alpha I + (1 - alpha) w_in J, then every neuron
    v <- beta v + (1 - beta) (v_leak + r I), spikes if v > v_threshold, and resets at once. Within a cycle J has the
    spikes of the step before, otherwise those of the same step."""
    nodes, edges = flat(graph)
    decay = (lambda tau: 1 - dt / tau) if integration == "euler" else (lambda tau: np.exp(-dt / tau))
    before = {name: [a for a, b in edges if b == name] for name in nodes}

    def reached(name):
        found, todo = set(), [name]
        while todo:
            now = todo.pop()
            for a, b in edges:
                if a == now and b not in found:
                    found.add(b)
                    todo.append(b)
        return found

    reach = {name: reached(name) for name in nodes}
    state = {name: [0.0, 0.0] for name in nodes}  # I, v
    old = {name: 0.0 for name in nodes}
    out = {name: [] for name, node in nodes.items() if node["type"] in POPULATIONS}
    out["output"] = []
    end = next(name for name, node in nodes.items() if node["type"] == "Output")

    for t in range(len(x)):
        new = {}

        def value(name, target):
            node = nodes[name]
            kind = node["type"]
            if kind == "Input":
                return x[t].astype(float)
            if kind in POPULATIONS:
                if name in reach[target] and target in reach[name]:
                    return old[name]
                if name not in new:
                    new[name] = update(name)
                return new[name]
            arriving = sum(value(source, target) for source in before[name])
            if kind == "Scale":
                return np.asarray(node["scale"], float) * arriving
            if kind in ("Linear", "Affine"):
                arriving = arriving @ np.asarray(node["weight"], float).T if np.ndim(arriving) else 0.0
                return arriving + np.asarray(node.get("bias", 0.0), float)
            return arriving  # Identity, Output

        def update(name):
            node, (I, v) = nodes[name], state[name]
            get = lambda key, other=None: np.asarray(node.get(key, other), float)
            J = sum(value(source, name) for source in before[name])
            if node["type"] == "Threshold":
                return (J > get("threshold")) * 1.0
            if node["type"] == "I":
                state[name][1] = v + dt * get("r") * J
                return state[name][1]
            if node["type"] == "CubaLIF":
                alpha = decay(get("tau_syn"))
                I = alpha * I + (1 - alpha) * get("w_in", 1.0) * J
                beta, drive = decay(get("tau_mem")), I
            else:
                beta, drive = decay(get("tau")), J
            v = beta * v + (1 - beta) * (get("v_leak") + get("r") * drive)
            if node["type"] == "LI":
                state[name] = [I, v]
                return v
            spikes, low = (v > get("v_threshold")) * 1.0, get("v_reset", 0.0)
            if reset == "zero":
                v = np.where(spikes > 0, low, v)
            elif reset == "subtract":
                v = v - (get("v_threshold") - low) * spikes
            state[name] = [I, v]
            return spikes

        out["output"].append(value(end, end))
        for name in out:
            if name != "output":
                if name not in new:
                    new[name] = update(name)
                out[name].append(new[name])
        old = {**old, **new}
    return {name: np.stack([np.broadcast_to(v, np.shape(values[-1])) for v in values]) for name, values in out.items()}


def random_graph(rng, kind="CubaLIF", readout="linear", layers=2, nested=False, general=True, inputs=3):
    """A recurrent network with populations l0.lif, l1.lif, ..., or the nested graphs rnn0, ... general: every
    parameter has other values than snnTorch's."""
    width = inputs
    nodes, edges, last = {"input": dict(type="Input", shape=np.array([width]))}, [], "input"
    for k in range(layers):
        n = int(rng.integers(4, 9))

        def drawn(low, high, plain):
            return rng.uniform(low, high, n) if general else np.full(n, plain)

        lif = dict(type=kind, v_leak=drawn(-0.2, 0.2, 0.0), v_threshold=drawn(0.5, 1.5, 1.0), v_reset=drawn(-0.3, 0.3, 0.0))
        tau = rng.uniform(4e-4, 2e-3, n)
        if kind == "LIF":
            lif.update(tau=tau)
        else:
            lif.update(tau_syn=rng.uniform(2e-4, 1e-3, n), tau_mem=tau, w_in=drawn(0.5, 4, 1.0))
        lif["r"] = tau / 1e-4 * drawn(0.5, 1.5, 1.0)
        rec = dict(type="Linear", weight=rng.normal(0, n ** -0.5, (n, n)))
        nodes[f"fc{k}"] = dict(type="Affine", weight=rng.normal(0, 1.2, (n, width)), bias=rng.uniform(-0.1, 0.05, n))
        edges.append((last, f"fc{k}"))
        if nested:
            ports = dict(input=dict(type="Input", shape=np.array([n])), output=dict(type="Output", shape=np.array([n])))
            inner = [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")]
            nodes[f"rnn{k}"] = dict(type="NIRGraph", edges=inner, nodes=dict(ports, lif=lif, w_rec=rec))
            edges.append((f"fc{k}", f"rnn{k}"))
            last = f"rnn{k}"
        else:
            nodes[f"l{k}.lif"], nodes[f"l{k}.w_rec"] = lif, rec
            last = f"l{k}.lif"
            edges += [(f"fc{k}", last), (last, f"l{k}.w_rec"), (f"l{k}.w_rec", last)]
        width = n
    if readout in ("linear", "filter"):
        bias = rng.normal(0, 1, 2) * (layers == 1 or readout == "linear")
        nodes["fc_out"] = dict(type="Affine", weight=rng.normal(0, 1, (2, width)), bias=bias)
        edges.append((last, "fc_out"))
        last, width = "fc_out", 2
    if readout == "filter":
        nodes["li"] = dict(type="LI", tau=rng.uniform(5e-4, 1e-3, 2), r=rng.uniform(0.5, 2, 2), v_leak=np.zeros(2))
        edges.append((last, "li"))
        last = "li"
    nodes["output"] = dict(type="Output", shape=np.array([width]))
    edges.append((last, "output"))
    return dict(nodes=nodes, edges=edges)
