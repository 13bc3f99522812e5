"""`ostwald convert` between directories of n2p2 and model files."""

from pathlib import Path

from ostwald.io.modelfile import SUFFIX, model_kind, read_model

from ..base import PotentialError
from ..registry import located
from . import modelfile, models, n2p2


def is_potential(sources, target) -> bool:
    """Whether a conversion is one of trained potentials: from a model file, or into one."""
    return Path(target).suffix == SUFFIX or any(model_kind(located(source)) is not None for source in sources)


def convert(sources, target) -> list[str]:
    """Writes the networks of directories and model files into one model file, or into directories of n2p2: one directory, or of
    several networks one each, member-1, member-2, … Returns what was written, a line each. PotentialError or ModelFileError.
    """
    target, found = Path(target), []
    sources = [located(source) for source in sources]
    files = {source: read_model(source) for source in sources if model_kind(source) is not None}
    for source in sources:
        own = models(files.get(source, source))
        found += own
        if own[0].species != found[0].species:
            this, first = (" ".join(model.species) for model in (own[0], found[0]))
            raise PotentialError(f"is a potential of {this}, the first is one of {first}", source)
    if target.suffix == SUFFIX:
        trained = [files[source].description["training"] if source in files else {} for source in sources]
        training = trained[0] if all(each == trained[0] for each in trained) else {}
        provenance = {
            "sources": [source.name for source in sources],
            "provenance": [files[source].provenance if source in files else None for source in sources],
        }
        digest = modelfile.write(target, found, training, provenance)
        return [f"{target}: {len(found)} network{'s' * (len(found) > 1)}, hash {digest}"]
    if target.exists() and not target.is_dir():
        raise PotentialError("is a file: networks are written into a directory, or into NAME.ostwald", target)
    folders = [target] if len(found) == 1 else [target / f"member-{k}" for k in range(1, len(found) + 1)]
    for model, folder in zip(found, folders):
        n2p2.write(model, folder)
    return [f"{folder}: input.nn, scaling.data, weights" for folder in folders]
