"""Rates and sizes of perturbations: Lyapunov spectra, and singular values of long Jacobian products."""

from rnnvg.bptt.spectrum.lyapunov import LyapunovSpectrum, lyapunov_spectrum
from rnnvg.bptt.spectrum.singular import SingularValues, jacobian_singular_values

__all__ = ["LyapunovSpectrum", "SingularValues", "jacobian_singular_values", "lyapunov_spectrum"]
