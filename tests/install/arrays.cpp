// Links spikefloss::spikefloss alone, and prints what the test compares: a gradient, a fault, and whether MPI runs.
#include <spikefloss/spikefloss.hpp>

#include <cstdio>

using namespace spikefloss;

extern "C" int MPI_Initialized(int* flag);

int main() {
    const float one[] = {1.0f}, half[] = {0.5f}, zero[] = {0.0f}, x[] = {1.0f, 1.0f, 0.0f, 1.0f};
    const api::View weight{one, {1, 1}}, decay{half, {1}}, none{zero, {1}}, input{x, {4, 1, 1}};
    const api::Network network({}, {{"w_in", weight},
                                    {"w_rec", weight},
                                    {"bias", none},
                                    {"alpha", decay},
                                    {"beta", decay},
                                    {"w_out", weight},
                                    {"bias_out", none},
                                    {"kappa", none}});
    const float target[] = {0.0f, 0.0f, 0.0f, 1.0f};
    const api::Gradients g = api::gradients(network, input, {.target = {target, {4, 1, 1}}});
    std::printf("%.17g %.9g\n", g.loss, static_cast<double>(g.parameters.at("w_in").values[0]));
    try {
        api::spectrum(network, input, {.exponents = 1000});
    } catch (const Error& error) {
        std::printf("%d %s\n", static_cast<int>(error.code()), error.what());
    }
    int mpi_runs = 1;
    MPI_Initialized(&mpi_runs);
    std::printf("%d\n", mpi_runs);
}
