// The surrogate derivative psi(v) of a spike at v = u - theta with sharpness g, its derivative psi' and its primitive.
//
//   fast_sigmoid  1/(1+g|v|)^2      arctan  1/(1+(g v)^2)      sigmoid  4 e (1-e), e = 1/(1+exp(-g v))
//   gaussian      exp(-(g v)^2/2)   triangle  max(0, 1-g|v|)   exponential  exp(-g|v|)
#pragma once

#include "reference/model.hpp"

namespace spikefloss::reference {

double psi(Surrogate surrogate, double v, double g);
// psi'(v); 0 at the kinks of fast_sigmoid and exponential (v = 0) and triangle (v = 0, |v| = 1/g).
double psi_derivative(Surrogate surrogate, double v, double g);
// Psi(v) with Psi' = psi and Psi(0) = 1/2: the smooth function that replaces the step H if a true gradient is
// needed.
double psi_primitive(Surrogate surrogate, double v, double g);
// The distance from v to the nearest point where psi or psi' is not smooth; infinite if there is none.
double distance_to_kink(Surrogate surrogate, double v, double g);

}  // namespace spikefloss::reference
