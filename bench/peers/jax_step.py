#!/usr/bin/env python3
"""The steps of bench_gpu in JAX: lax.scan over time under jit, value and gradient; the flossing step with
jnp.linalg.qr. First the gradient is compared with ours. The equations are those of torch_step.py."""
import common

import functools
import os

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
import jax
import jax.numpy as jnp
import numpy as np


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def spike(u, theta, sharpness):
    return (u > theta).astype(u.dtype)


def spike_forward(u, theta, sharpness):
    return spike(u, theta, sharpness), u


def spike_backward(theta, sharpness, u, back):
    return (back * psi(u, theta, sharpness),)


def psi(u, theta, sharpness):
    return jnp.square(1.0 / (1.0 + sharpness * jnp.abs(u - theta)))


spike.defvjp(spike_forward, spike_backward)


def bcoo_product(case, data):
    from jax.experimental import sparse

    def product(values, s):
        matrix = sparse.BCOO((values, data["places"]), shape=(case.N, case.N), indices_sorted=True, unique_indices=True)
        return matrix @ s

    return product


def gather_product(case, data):
    sources = data["places"][:, 1].reshape(case.N, case.degree)
    return lambda values, s: jnp.einsum("nk,nkc->nc", values.reshape(case.N, case.degree), s[sources])


def event_product(case, data):
    """brainevent skips silent sources where the operand is spikes. The basis of tangents is no spikes."""
    import brainevent

    begin = np.arange(0, case.N * case.degree + 1, case.degree, dtype=np.int32)
    with jax.ensure_compile_time_eval():  # it looks at the indices
        matrix = brainevent.CSR(jnp.zeros(case.N * case.degree), jnp.asarray(case.sources().reshape(-1)),
                                jnp.asarray(begin), shape=(case.N, case.N))
    return lambda values, s: matrix.with_data(values) @ (brainevent.BinaryArray(s) if s.shape[1] == case.B else s)


# Products of a sparse W_rec, values [N degree], with s [N, columns].
PRODUCTS = {"jax-bcoo": bcoo_product, "jax-gather": gather_product, "brainevent": event_product}


def trajectory(case, p, x, given, product=None):
    """u of steps 0..T-1 and 1..T, [T, B, N]; with `given` spikes [T, B, N] in place of its own unless it is None.
    product: of a sparse W_rec."""
    current = (x.reshape(case.T * case.B, case.M) @ p["w_in"].T + p["bias"]).reshape(case.T, case.B, case.N)
    recurrent = (lambda s: product(p["w_rec"], s.T).T) if product else (lambda s: s @ p["w_rec"].T)

    def step(state, now):
        i, u, w = state
        s = spike(u - w, case.threshold, case.sharpness)
        if given is not None:
            # The value is the given spike, the derivative that of its own.
            s = s + jax.lax.stop_gradient(now[1].astype(u.dtype) - s)
        if case.binary():  # i and the reset have no effect
            after = now[0] + recurrent(s)
            return (i, after, w), (u, after)
        i = case.alpha * i + now[0] + recurrent(s)
        after = (case.beta * u + (1.0 - case.beta) * i) * (1.0 - jax.lax.stop_gradient(s))
        return (i, after, case.rho * w + case.jump * s if case.rho else w), (u, after)

    start = jnp.zeros((case.B, case.N), jnp.float32)
    _, us = jax.lax.scan(step, (start, start, start), (current, given) if given is not None else (current,))
    return us


def exponents(case, p, us, q0, product=None):
    recurrent = (lambda q: product(p["w_rec"], q[0])[None]) if product else (lambda q: p["w_rec"] @ q)

    def step(q, u):
        q_i, q_u = q[:, : case.N], q[:, case.N :]
        p_i = case.alpha * q_i + recurrent(psi(u, case.threshold, case.sharpness)[..., None] * q_u)
        p_u = case.beta * q_u + (1.0 - case.beta) * p_i
        q, r = jnp.linalg.qr(jnp.concatenate([p_i, p_u], axis=1))
        return q, jnp.log(jnp.abs(jnp.diagonal(r, axis1=-2, axis2=-1)))

    _, logs = jax.lax.scan(step, q0, us)
    return logs.sum(axis=0).mean(axis=0) / case.T


def loss(case, p, data, given=None, form=None):
    """(loss, lambda or None)"""
    product = PRODUCTS[form](case, data) if case.degree else None
    before, after = trajectory(case, p, data["x"], given, product)
    if case.kind == "training":
        return (data["dy"] * (after @ p["w_out"].T)).sum(), None
    found = exponents(case, p, before, data["q0"], product)
    return jnp.square(found).mean(), found


def as_numpy(tree):
    return {name: np.asarray(value) for name, value in tree.items()}


class Model:
    def __init__(self, case, device, form="jax-bcoo"):
        self.case, self.form = case, form
        self.p = {name: jax.device_put(value, device) for name, value in case.parameters().items()}
        arrays = {"x": case.x(), **({"dy": case.dy()} if case.kind == "training" else {"q0": case.q0()})}
        if case.degree:
            targets = np.repeat(np.arange(case.N, dtype=np.int32), case.degree)
            arrays["places"] = np.stack([targets, case.sources().reshape(-1)], axis=1)
        self.data = {name: jax.device_put(value, device) for name, value in arrays.items()}
        # Everything is an argument, so that nothing is folded into the compiled program.
        self.step = jax.jit(jax.value_and_grad(lambda p, data: loss(case, p, data, None, form), has_aux=True))

    def check(self):
        case, ours = self.case, self.case.spikes()
        forced = jax.jit(jax.value_and_grad(lambda p, data, given: loss(case, p, data, given, self.form), has_aux=True))
        (_, found), gradients = forced(self.p, self.data, jnp.asarray(ours))
        row = {"gradient_error": common.compare(case, as_numpy(gradients))}
        row["agrees"] = row["gradient_error"] <= common.TOLERANCE
        if found is not None:
            row["lambda_error"] = float(np.abs(np.asarray(found, np.float64) - case.lambdas()).max())
            row["agrees"] = row["agrees"] and row["lambda_error"] <= 1e-4
        if case.rho or case.degree:  # their thresholds are not kept, and one more compilation takes long
            return row
        before, _ = jax.jit(lambda p, x: trajectory(case, p, x, None))(self.p, self.data["x"])
        row.update(common.spike_check(case, ours, (np.asarray(before) > case.threshold).astype(np.uint8)))
        return row

    def time(self, options, deadline):
        found = common.times(lambda: jax.block_until_ready(self.step(self.p, self.data)), lambda: None, options.repeats, deadline)
        (_, _), gradients = self.step(self.p, self.data)
        return {**common.timing(found), "own_gradient_error": common.compare(self.case, as_numpy(gradients))}


def main():
    options = common.arguments(__doc__.splitlines()[0])
    jax.config.update("jax_default_matmul_precision", "highest")  # float32 throughout, as ours
    device = jax.devices()[0] if options.device == "auto" else jax.devices("gpu" if options.device == "cuda" else "cpu")[0]
    report = common.Report(options.json, f"{device.device_kind}, JAX {jax.__version__}")
    with jax.default_device(device):
        for case, deadline in common.budgets(options):
            try:
                model = Model(case, device)
            except Exception as error:
                def fail(reason=error):
                    raise reason

                report.add(case, "jax", fail, deadline)
                continue
            report.add(case, "jax gradient", model.check, deadline)
            report.add(case, "jax scan", functools.partial(model.time, options, deadline), deadline)
            del model
            jax.clear_caches()
    failures = report.failures()
    if failures:
        raise SystemExit("gradients disagree: " + ", ".join(failures))


if __name__ == "__main__":
    main()
