"""Why a gradient is what it is: attribution, counterfactuals, contributions of steps and parameters, invariant units."""
