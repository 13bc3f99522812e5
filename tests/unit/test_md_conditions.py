"""Run files of analyses, selections, stop conditions and triggers: what is wrong with them is said in one sentence."""

import re
import tomllib

import pytest

from ostwald.app.jobs import md_setup
from ostwald.app.jobs.conditions import Conditions, Rates
from ostwald.app.jobs.md_schema import TABLES
from ostwald.app.runfile import RunFileError, validate

JOB = """
[job]
kind = "md"
[structure]
lattice = "fcc"
a = 3.62
species = ["Cu"]
[potential]
file = "zhou:Cu"
[[stage]]
name = "melt"
ensemble = "nve"
steps = 10
[[stage]]
name = "hold"
ensemble = "nve"
steps = 10
[analysis]
every = 20
clusters = true
"""


def values_of(text):
    values = validate(tomllib.loads(text), TABLES, "job.toml")
    md_setup.check_names(values, "job.toml")
    return values


def refused(text, sentence):
    with pytest.raises(RunFileError) as error:
        values_of(text)
    assert re.search(sentence, str(error.value)), error.value
    assert str(error.value).startswith("job.toml: ")


def test_conditions_are_tested_from_their_stage_on():
    found = Conditions({"largest_cluster": 50, "solid_fraction": 0.5}, first=1)
    assert found.met({"largest_cluster": 60, "solid_fraction": 0.9}, 0) is None
    assert found.met({"largest_cluster": 49, "solid_fraction": 0.49}, 1) is None
    assert found.met({}, 1) is None and found.met({"largest_cluster": float("nan")}, 1) is None
    assert found.met({"largest_cluster": 50, "solid_fraction": 0.1}, 1) == "largest_cluster is 50, at or above 50"
    assert found.met({"solid_fraction": 0.5}, 2).startswith("solid_fraction is 0.5")


def test_rates_before_and_after_a_trigger():
    values = values_of(JOB + "[trigger]\nsolid_fraction = 0.5\ntrajectory_every = 7\n[series]\nevery = 3\n")
    assert Rates.of(values) == Rates(series=3, trajectory=0, analysis=20)
    assert Rates.of(values, triggered=True) == Rates(series=3, trajectory=7, analysis=20)
    assert str(Rates.of(values)) == "time series every 3 steps, analysis every 20 steps"


@pytest.mark.parametrize(
    "more, sentence",
    [
        ("[stop]\nlargest_clusters = 5\n", r"did you mean 'largest_cluster'"),
        ("[stop]\nlargest_cluster = 0\n", r"\[stop\] largest_cluster: must be at least 1"),
        ("[stop]\nsolid_fraction = 1.5\n", r"\[stop\] solid_fraction: must be at most 1"),
        (
            '[stop]\nsolid_fraction = 0.5\nfrom = "cool"\n',
            r"\[stop\] from: no stage is named 'cool'; known: melt, hold",
        ),
        ('[stop]\nfrom = "hold"\n', r"\[stop\] from: has no effect"),
        ("[trigger]\nlargest_cluster = 50\n", r"\[trigger\]: give at least one of series_every"),
        ("[trigger]\nseries_every = 5\n", r"\[trigger\]: give largest_cluster or solid_fraction"),
        ("[trigger]\nsolid_fraction = 0.5\nseries_every = 0\n", r"series_every: must be at least 1"),
        ('[trajectory]\nevery = 5\nselect = "liquid"\n', r"select: 'liquid' is not known"),
        ("[trajectory]\nevery = 5\nsphere = [0.5, 0.5, 0.5, 0.0]\n", r"sphere: the radius"),
        (
            "[trajectory]\nevery = 5\nsphere = [0.5, 0.5, 0.5, 4.0]\nblock = [0, 1, 0, 1, 0, 1]\n",
            r"\[trajectory\]: give sphere or block",
        ),
    ],
)
def test_mistakes_are_named(more, sentence):
    refused(JOB + more, sentence)


@pytest.mark.parametrize(
    "analysis, more, sentence",
    [
        ("", "[stop]\nsolid_fraction = 0.5\n", r"\[stop\] solid_fraction: needs \[analysis\] every"),
        (
            "every = 5",
            "[stop]\nlargest_cluster = 5\n",
            r"largest_cluster: needs \[analysis\] every and clusters = true",
        ),
        ("", '[trajectory]\nevery = 5\nselect = "solid"\n', r"select: needs \[analysis\] every"),
        (
            "every = 5",
            '[trajectory]\nevery = 5\nselect = "largest"\n',
            r"'largest' needs \[analysis\] every and clusters",
        ),
        ("every = 5\ncluster_cutoff = 3.0", "", r"cluster_cutoff: has no effect without clusters = true"),
        ("every = 5\nsmallest = 3", "", r"smallest: has no effect without clusters = true"),
        ('every = 5\nfields = ["q6"]', "", r"fields: are recorded by the trajectory"),
        ('every = 5\nfields = ["cluster"]', "[trajectory]\nevery = 5\n", r"'cluster' needs clusters = true"),
        ('every = 5\nfields = ["q99"]', "[trajectory]\nevery = 5\n", r"named 'q99'; known: structure"),
        ('every = 5\nmethod = "cna"\nthreshold = 0.4', "", r"threshold: has no effect with method = 'cna'"),
        ("every = 5\nnuclei = true", "", r"nuclei: has no effect without clusters = true"),
        ("every = 5\ninherent_iterations = 3", "", r"inherent_iterations: has no effect without inherent = true"),
        ('every = 5\ntemplates = ["fcc"]', "", r"templates: has no effect with method = 'q6'"),
        ('every = 5\nmethod = "ptm"\ncutoff = 3.0', "", r"cutoff: has no effect with method = 'ptm'"),
        ('every = 5\nfields = ["coordination"]', "[trajectory]\nevery = 5\n", r"'coordination' needs a cutoff"),
        ('every = 5\nmethod = "ptm"\ntemplates = []', "", r"templates: names no template"),
        ('every = 5\nclusters = true\nnuclei = true\nnuclei_from = "x"', "", r"nuclei_from: no stage is named 'x'"),
        ('every = 5\nmethod = "q7"', "", r"method: 'q7' is not known"),
    ],
)
def test_mistakes_of_the_analysis_are_named(analysis, more, sentence):
    refused(JOB[: JOB.index("[analysis]")] + (f"[analysis]\n{analysis}\n" if analysis else "") + more, sentence)
