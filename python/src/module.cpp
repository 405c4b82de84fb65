// spikefloss._core: the library (src/api) on NumPy arrays, and on whatever has the buffer protocol or DLPack. The
// functions of the package (python/spikefloss) give arguments their types and defaults. Passes run without the GIL.
#include "api/spikefloss.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>

namespace nb = nanobind;
using namespace spikefloss;
namespace {

// float32 in row-major order in host memory: taken as it is.
using Floats = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Longs = nb::ndarray<const std::int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Ints = nb::ndarray<const std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Optional = std::optional<Floats>;

api::View view_of(const Floats& array) {
    api::View view{array.data(), {}};
    for (std::size_t axis = 0; axis < array.ndim(); ++axis)
        view.shape.push_back(static_cast<api::Index>(array.shape(axis)));
    return view;
}
api::View view_of(const Optional& array) { return array ? view_of(*array) : api::View(); }

// A NumPy array that owns these numbers.
template <class T>
nb::object give(std::vector<T> values, const api::Shape& shape) {
    auto* const kept = new std::vector<T>(std::move(values));
    const nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
    const std::vector<std::size_t> sizes(shape.begin(), shape.end());
    return nb::cast(nb::ndarray<nb::numpy, T>(kept->data(), sizes.size(), sizes.data(), owner));
}
template <class T>
nb::object give(std::vector<T> values) {
    const api::Shape shape{static_cast<api::Index>(values.size())};
    return give(std::move(values), shape);
}
nb::object give(api::Array array) { return give(std::move(array.values), array.shape); }
nb::dict give(api::Arrays arrays) {
    nb::dict all;
    for (auto& [name, array] : arrays) all[name.c_str()] = give(std::move(array));
    return all;
}
nb::dict give(api::Gradients g) {
    nb::dict all;
    all["loss"] = g.loss;
    all["accuracy"] = g.accuracy;
    all["parameters"] = give(std::move(g.parameters));
    if (!g.input.values.empty()) all["input"] = give(std::move(g.input));
    all["state_gradient_norm"] = give(std::move(g.state_gradient_norm));
    return all;
}

api::Network make_network(const nb::dict& rules, const std::vector<std::pair<std::string, api::Index>>& populations,
                          const nb::list& projections, const std::map<std::string, Floats>& arrays) {
    api::Rules r;
    const auto take = [&](const char* name, auto& value) {
        if (rules.contains(name)) value = nb::cast<std::decay_t<decltype(value)>>(rules[name]);
    };
    take("threshold", r.threshold), take("reset", r.reset), take("reset_delay", r.reset_delay);
    take("surrogate", r.surrogate), take("sharpness", r.sharpness), take("readout", r.readout);
    take("adaptation", r.adaptation), take("refractory", r.refractory);
    take("inputs", r.inputs), take("readout_from", r.readout_from);
    for (const auto& [name, size] : populations) r.populations.push_back({name, size});
    for (const nb::handle item : projections) {
        const auto p = nb::cast<nb::dict>(item);
        api::Projection projection{nb::cast<std::string>(p["name"]),
                                   nb::cast<std::string>(p["from"]),
                                   nb::cast<std::string>(p["to"]),
                                   nb::cast<api::Index>(p["delay"]),
                                   nb::cast<std::string>(p["sign"]),
                                   p.contains("indptr"),
                                   {},
                                   {}};
        if (projection.sparse) {
            const auto begin = nb::cast<Longs>(p["indptr"]);
            const auto column = nb::cast<Ints>(p["indices"]);
            projection.indptr.assign(begin.data(), begin.data() + begin.size());
            projection.indices.assign(column.data(), column.data() + column.size());
        }
        r.projections.push_back(std::move(projection));
    }
    std::map<std::string, api::View> views;
    for (const auto& [name, array] : arrays) views[name] = view_of(array);
    return api::Network(r, views);
}

// Ctrl-C ends a long call. Python handles signals in its main thread, where this throws KeyboardInterrupt.
unsigned long main_thread = 0;
void check_signals() {
    if (PyThread_get_thread_ident() != main_thread) return;
    const nb::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
}
api::Settings settings(int threads, const std::string& sums) { return {threads, sums, check_signals}; }

api::SpectrumOptions spectrum_options(api::Index exponents, api::Index warmup, api::Index qr_interval,
                                      const std::string& jacobian_reset, const Optional& q0, std::uint64_t seed) {
    return {exponents, warmup, qr_interval, jacobian_reset, view_of(q0), seed};
}

nb::dict spectrum(const api::Network& network, const Floats& x, api::Index exponents, api::Index warmup,
                  api::Index qr_interval, const std::string& jacobian_reset, const Optional& q0, std::uint64_t seed,
                  int threads, const std::string& sums) {
    api::Spectrum s;
    {
        const nb::gil_scoped_release quiet;
        s = api::spectrum(network, view_of(x),
                          spectrum_options(exponents, warmup, qr_interval, jacobian_reset, q0, seed),
                          settings(threads, sums));
    }
    const auto B = static_cast<api::Index>(x.shape(1)), qrs = static_cast<api::Index>(s.qr_step.size());
    nb::dict all;
    all["exponents"] = give(std::move(s.exponents));
    all["per_sequence"] = give(std::move(s.per_sequence), {B, exponents});
    all["log_r"] = give(std::move(s.log_r), {qrs, B, exponents});
    all["qr_step"] = give(std::move(s.qr_step));
    all["kaplan_yorke"] = s.kaplan_yorke;
    all["kaplan_yorke_is_lower_bound"] = s.kaplan_yorke_is_lower_bound;
    all["entropy_rate"] = s.entropy_rate;
    all["log10_condition_number"] = s.log10_condition_number;
    all["rate"] = s.rate;
    return all;
}

nb::dict floss(const api::Network& network, const Floats& x, api::Index exponents, api::Index warmup,
               api::Index qr_interval, const std::string& jacobian_reset, const Optional& q0, std::uint64_t seed,
               const std::vector<double>& target, double slack, api::Index skipped, bool direct, bool constants,
               int threads, const std::string& sums) {
    api::Flossing f;
    {
        const nb::gil_scoped_release quiet;
        f = api::floss(network, view_of(x),
                       {spectrum_options(exponents, warmup, qr_interval, jacobian_reset, q0, seed), target, slack,
                        skipped, direct, constants},
                       settings(threads, sums));
    }
    nb::dict all = give(std::move(f.gradients));
    all["exponents"] = give(std::move(f.exponents));
    all["per_sequence"] = give(std::move(f.per_sequence), {static_cast<api::Index>(x.shape(1)), exponents});
    return all;
}

nb::dict gradients(const api::Network& network, const Floats& x, const std::optional<Longs>& label,
                   const Optional& target, const Optional& mask, const std::string& loss, bool constants,
                   bool input_gradient, int threads, const std::string& sums) {
    api::Targets targets{{}, view_of(target), view_of(mask), loss};
    if (label) targets.label.assign(label->data(), label->data() + label->size());
    api::Gradients g;
    {
        const nb::gil_scoped_release quiet;
        g = api::gradients(network, view_of(x), targets, {.constants = constants, .input_gradient = input_gradient},
                           settings(threads, sums));
    }
    return give(std::move(g));
}

// A pass with the input that it reads until its last backward pass.
struct HeldPass {
    api::Pass pass;
    Floats x;
    api::Shape steps;  // [T+1, B, N]
};

HeldPass* run(const api::Network& network, Floats x, bool currents, bool constants, bool input_gradient, bool readout,
              int threads, const std::string& sums) {
    const api::View view = view_of(x);
    require(view.shape.size() == 3, Exit::usage, "x must be [T, B, M]", "time comes first, then the sequence");
    const nb::gil_scoped_release quiet;
    auto held = std::unique_ptr<HeldPass>(
        new HeldPass{api::Pass(network, view.shape[0], view.shape[1], {currents, constants, input_gradient, readout},
                               settings(threads, sums)),
                     std::move(x),
                     {view.shape[0] + 1, view.shape[1], network.neurons()}});
    held->pass.forward(view);
    return held.release();
}

nb::dict backward(HeldPass& held, const Optional& readout, const Optional& spikes, const Optional& membrane) {
    api::Gradients g;
    {
        const nb::gil_scoped_release quiet;
        g = held.pass.backward({view_of(readout), view_of(spikes), view_of(membrane)});
    }
    return give(std::move(g));
}

}  // namespace

NB_MODULE(_core, m) {
    nb::set_leak_warnings(false);  // a graph of torch can hold a pass until Python ends
    main_thread = nb::cast<unsigned long>(nb::module_::import_("threading").attr("main_thread")().attr("ident"));
    // The package turns these into its own exceptions: code, problem and advice are in one text.
    static nb::object failure = nb::exception<Error>(m, "Error", PyExc_RuntimeError);
    nb::register_exception_translator(
        [](const std::exception_ptr& thrown, void*) {
            try {
                std::rethrow_exception(thrown);
            } catch (const Error& error) {
                PyErr_SetObject(failure.ptr(), nb::make_tuple(static_cast<int>(error.code()), error.what()).ptr());
            }
        },
        nullptr);

    nb::class_<api::Network>(m, "Network")
        .def("__init__",
             [](api::Network* self, const nb::dict& rules,
                const std::vector<std::pair<std::string, api::Index>>& populations, const nb::list& projections,
                const std::map<std::string, Floats>& arrays) {
                 new (self) api::Network(make_network(rules, populations, projections, arrays));
             })
        .def_prop_ro("neurons", &api::Network::neurons)
        .def_prop_ro("inputs", &api::Network::inputs)
        .def_prop_ro("outputs", &api::Network::outputs)
        .def_prop_ro("state_size", &api::Network::state_size)
        .def("arrays", [](const api::Network& network) { return give(network.arrays()); });
    nb::class_<HeldPass>(m, "Pass")
        .def("spikes", [](const HeldPass& held) { return give(held.pass.spikes(), held.steps); })
        .def("membrane", [](const HeldPass& held) { return give(held.pass.membrane()); })
        .def("current", [](const HeldPass& held) { return give(held.pass.current()); })
        .def("readout", [](const HeldPass& held) { return give(held.pass.readout()); })
        .def("rate", [](const HeldPass& held) { return held.pass.rate(); })
        .def("backward", &backward, nb::arg("readout").none(), nb::arg("spikes").none(), nb::arg("membrane").none());
    m.def("run", &run);
    m.def("spectrum", &spectrum, nb::arg("network"), nb::arg("x"), nb::arg("exponents"), nb::arg("warmup"),
          nb::arg("qr_interval"), nb::arg("jacobian_reset"), nb::arg("q0").none(), nb::arg("seed"), nb::arg("threads"),
          nb::arg("sums"));
    m.def("floss", &floss, nb::arg("network"), nb::arg("x"), nb::arg("exponents"), nb::arg("warmup"),
          nb::arg("qr_interval"), nb::arg("jacobian_reset"), nb::arg("q0").none(), nb::arg("seed"), nb::arg("target"),
          nb::arg("slack"), nb::arg("skipped"), nb::arg("direct"), nb::arg("constants"), nb::arg("threads"),
          nb::arg("sums"));
    m.def("gradients", &gradients, nb::arg("network"), nb::arg("x"), nb::arg("label").none(), nb::arg("target").none(),
          nb::arg("mask").none(), nb::arg("loss"), nb::arg("constants"), nb::arg("input_gradient"), nb::arg("threads"),
          nb::arg("sums"));
}
