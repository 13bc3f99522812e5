"""The analytic embedded-atom metals of Zhou, Johnson and Wadley, and their alloys, from the published parameters.

X. W. Zhou, R. A. Johnson, H. N. G. Wadley, Phys. Rev. B 69, 144113 (2004), eqs. 1-10 and table III; with x = r/r_e:

    φ(r) = A exp(-α (x-1)) / (1 + (x-κ)²⁰) - B exp(-β (x-1)) / (1 + (x-λ)²⁰);   ρ(r) = f_e exp(-β (x-1)) / (1 + (x-λ)²⁰)
    φ_ab = ½ (ρ_b/ρ_a φ_aa + ρ_a/ρ_b φ_bb)
    F(ρ) = Σ F_ni (ρ/ρ_n - 1)^i           ρ < ρ_n = 0.85 ρ_e
         = Σ F_i (ρ/ρ_e - 1)^i            ρ_n ≤ ρ < ρ_0 = 1.15 ρ_e
         = F_e (1 - η ln(ρ/ρ_s)) (ρ/ρ_s)^η   ρ_0 ≤ ρ

The functions have no end of their own. They are cut at √10/2 of the largest lattice parameter, the fifth shell of an fcc
metal, and brought to zero over the last 0.5 Å, which moves energies by less than 1e-5 eV/atom.
"""

from __future__ import annotations

import numpy as np
from ase.data import atomic_masses, atomic_numbers

from .base import PotentialError
from .eam import Eam, EamTables

PREFIX = "zhou:"
FIELDS = "r_e f_e rho_e rho_s alpha beta A B kappa lambda F_n0 F_n1 F_n2 F_n3 F_0 F_1 F_2 F_3 eta F_e".split()
_TABLE = """
Cu 2.556162 1.554485 21.175871 21.175395 8.127620 4.334731 0.396620 0.548085 0.308782 0.756515 -2.170269 -0.263788 1.088878 -0.817603 -2.19 0.0 0.561830 -2.100595 0.310490 -2.186568
Ag 2.891814 1.106232 14.604100 14.604144 9.132010 4.870405 0.277758 0.419611 0.339710 0.750758 -1.729364 -0.255882 0.912050 -0.561432 -1.75 0.0 0.744561 -1.150650 0.783924 -1.748423
Au 2.885034 1.529021 19.991632 19.991509 9.516052 5.075228 0.229762 0.356666 0.356570 0.748798 -2.937772 -0.500288 1.601954 -0.835530 -2.98 0.0 1.706587 -1.134778 1.021095 -2.978815
Ni 2.488746 2.007018 27.562015 27.930410 8.383453 4.471175 0.429046 0.633531 0.443599 0.820658 -2.693513 -0.076445 0.241442 -2.375626 -2.70 0.0 0.265390 -0.152856 0.469000 -2.699486
Pd 2.750897 1.595417 21.335246 21.940073 8.697397 4.638612 0.406763 0.598880 0.397263 0.754799 -2.321006 -0.473983 1.615343 -0.231681 -2.36 0.0 1.481742 -1.675615 1.130000 -2.352753
Pt 2.771916 2.336509 33.367564 35.205357 7.105782 3.789750 0.556398 0.696037 0.385255 0.770510 -1.455568 -2.149952 0.528491 1.222875 -4.17 0.0 3.010561 -2.420128 1.450000 -4.145597
Al 2.863924 1.403115 20.418205 23.195740 6.613165 3.527021 0.314873 0.365551 0.379846 0.759692 -2.807602 -0.301435 1.258562 -1.247604 -2.83 0.0 0.622245 -2.488244 0.785902 -2.824528
Pb 3.499723 0.647872 8.450154 8.450063 9.121799 5.212457 0.161219 0.236884 0.250805 0.764955 -1.422370 -0.210107 0.682886 -0.529378 -1.44 0.0 0.702726 -0.538766 0.935380 -1.439436
Fe 2.481987 1.885957 20.041463 20.041463 9.818270 5.236411 0.392811 0.646243 0.170306 0.340613 -2.534992 -0.059605 0.193065 -2.282322 -2.54 0.0 0.200269 -0.148770 0.391750 -2.539945
Mo 2.728100 2.723710 29.354065 29.354065 8.393531 4.476550 0.708787 1.120373 0.137640 0.275280 -3.692913 -0.178812 0.380450 -3.133650 -3.71 0.0 0.875874 0.776222 0.790879 -3.712093
Ta 2.860082 3.086341 33.787168 33.787168 8.489528 4.527748 0.611679 1.032101 0.176977 0.353954 -5.103845 -0.405524 1.112997 -3.585325 -5.14 0.0 1.640098 0.221375 0.848843 -5.141526
W 2.740840 3.487340 37.234847 37.234847 8.900114 4.746728 0.882435 1.394592 0.139209 0.278417 -4.946281 -0.148818 0.365057 -4.432406 -4.96 0.0 0.661935 0.348147 -0.582714 -4.961306
Mg 3.196291 0.544323 7.132600 7.132600 10.228708 5.455311 0.137518 0.225930 0.5 1.0 -0.896473 -0.044291 0.162232 -0.689950 -0.90 0.0 0.122838 -0.226010 0.431425 -0.899702
Co 2.505979 1.975299 27.206789 27.206789 8.679625 4.629134 0.421378 0.640107 0.5 1.0 -2.541799 -0.219415 0.733381 -1.589003 -2.56 0.0 0.705845 -0.687140 0.694608 -2.559307
Ti 2.933872 1.863200 25.565138 25.565138 8.775431 4.680230 0.373601 0.570968 0.5 1.0 -3.203773 -0.198262 0.683779 -2.321732 -3.22 0.0 0.608587 -0.750710 0.558572 -3.219176
Zr 3.199978 2.230909 30.879991 30.879991 8.559190 4.564902 0.424667 0.640054 0.5 1.0 -4.485793 -0.293129 0.990148 -3.202516 -4.51 0.0 0.928602 -0.981870 0.597133 -4.509025
"""
METALS = {w[0]: dict(zip(FIELDS, map(float, w[1:]))) for w in map(str.split, _TABLE.strip().splitlines())}
LATTICES = dict.fromkeys(METALS, "fcc") | dict.fromkeys(("Fe", "Mo", "Ta", "W"), "bcc")
LATTICES |= dict.fromkeys(("Mg", "Co", "Ti", "Zr"), "hcp")
TAPER = 0.5
"""Å before the cutoff over which the pair functions go to zero"""
KNOTS = 4000


def lattice_parameter(symbol: str) -> float:
    """a in Å of the crystal that the metal was fitted to, from its nearest-neighbour distance r_e."""
    return METALS[symbol]["r_e"] * {"fcc": 2**0.5, "bcc": 2 / 3**0.5, "hcp": 1.0}[LATTICES[symbol]]


def _decay(x, b, c):
    return np.exp(-b * (x - 1.0)) / (1.0 + (x - c) ** 20)


def density(symbol: str, r):
    """ρ(r): what an atom contributes at distance r (Å)."""
    p = METALS[symbol]
    return p["f_e"] * _decay(r / p["r_e"], p["beta"], p["lambda"])


def pair(a: str, b: str, r):
    """φ_ab(r) in eV at r (Å)."""
    if a != b:
        ratio = density(b, r) / density(a, r)
        return 0.5 * (ratio * pair(a, a, r) + pair(b, b, r) / ratio)
    p = METALS[a]
    x = r / p["r_e"]
    return p["A"] * _decay(x, p["alpha"], p["kappa"]) - p["B"] * _decay(x, p["beta"], p["lambda"])


def embedding(symbol: str, rho):
    """F(ρ) in eV."""
    p = METALS[symbol]
    rho = np.asarray(rho, float)
    low, high = 0.85 * p["rho_e"], 1.15 * p["rho_e"]
    thin = np.polynomial.polynomial.polyval(rho / low - 1.0, [p[f"F_n{k}"] for k in range(4)])
    middle = np.polynomial.polynomial.polyval(rho / p["rho_e"] - 1.0, [p[f"F_{k}"] for k in range(4)])
    x = np.maximum(rho, low) / p["rho_s"]
    dense = p["F_e"] * (1.0 - p["eta"] * np.log(x)) * x ** p["eta"]
    return np.where(rho < low, thin, np.where(rho < high, middle, dense))


def tables(species) -> EamTables:
    """Tables of a metal or an alloy; ValueError names a symbol that is not in the set."""
    species = tuple(species)
    for symbol in species:
        if symbol not in METALS:
            raise ValueError(f"{symbol!r} is none of the metals of the set: {', '.join(METALS)}")
    # the nearest-neighbour distance stands for the fcc lattice parameter of any structure, as its authors cut it
    cutoff = 10**0.5 / 2 * max(METALS[s]["r_e"] for s in species) * 2**0.5
    dr = cutoff / (KNOTS - 1)
    r = dr * np.arange(KNOTS)
    u = np.clip((r - (cutoff - TAPER)) / TAPER, 0.0, 1.0)
    taper = 1.0 - u**3 * (10.0 - 15.0 * u + 6.0 * u**2)
    largest = 3.0 * max(METALS[s]["rho_e"] for s in species)
    rho = np.linspace(0.0, largest, KNOTS)
    numbers = [atomic_numbers[s] for s in species]
    return EamTables(
        species=species,
        numbers=np.array(numbers),
        masses=atomic_masses[numbers],
        constants=np.array([lattice_parameter(s) for s in species]),
        lattices=tuple(LATTICES[s] for s in species),
        drho=rho[1],
        embed=np.array([embedding(s, rho) for s in species]),
        dr=dr,
        density=np.array([density(s, r) * taper for s in species])[:, None],
        pair=np.array([[r * pair(a, b, r) * taper for b in species] for a in species]),
        cutoff=cutoff,
    )


def matches(path, text) -> bool:
    """No file is of this family; it goes by names such as zhou:Ni-Al."""
    return False


def matches_name(name: str) -> bool:
    return name.startswith(PREFIX)


def read(name, species=None, precision="double") -> Eam:
    """The potential called zhou:A-B-...; species: those wanted, in the order of types."""
    named = tuple(str(name)[len(PREFIX) :].split("-"))
    wanted = named if species is None else tuple(species)
    for symbol in wanted:
        if symbol not in named:
            raise PotentialError(f"{symbol!r} is not among its species ({', '.join(named)})", name)
    try:
        return Eam(tables(wanted), precision, name)
    except ValueError as error:
        raise PotentialError(str(error), name) from None
