"""`data`: a data set as it lies on disk, turned once into packed, memory-mappable arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from figkd.data import DATASETS, copies, left_out, prepare, source_files
from figkd.data.on_the_fly import ROOT_FILE
from figkd.data.originals import ORIGINALS_FILE
from figkd.data.tally import in_words
from pipeline.config.schema import DeployConfig
from pipeline.core.files import read_json
from pipeline.stages.base import Arguments, Source, Stage, Work


def _arguments(config: DeployConfig, _target: str) -> Arguments:
    data = config.data
    info = DATASETS[data.dataset]
    default_store = round(data.image_size * 256 / 224) if info.photos else data.image_size
    arguments: Arguments = {
        "dataset": data.dataset,
        "options": dict(data.options),
        "image_size": data.image_size,
        "store_size": data.store_size or default_store,
        "val_fraction": data.validation_fraction,
        "seed": config.seed,
    }
    if data.decode == "on_the_fly":
        # Files are read later, so here their place counts: the artifact of another place points elsewhere. Its
        # digest is the same, since only root.json differs, and so nothing after it runs again.
        arguments |= {"decode": data.decode, "root": str(data.root and data.root.absolute())}
    return arguments


def _sources(config: DeployConfig) -> Mapping[str, Source]:
    data = config.data
    return {"files": Source(data.root, lambda: source_files(data.dataset, data.root, dict(data.options)))}


def _run(work: Work) -> None:
    arguments = dict(work.arguments)
    arguments.pop("root", None)
    prepare(
        arguments.pop("dataset"),
        work.sources["files"],
        work.out,
        digests=work.digests,
        progress=work.progress,
        **arguments,
    )


def _summary(out: Path) -> str:
    facts = read_json(out / "data.json")
    counts = ", ".join(f"{n} {split}" for split, n in facts["counts"].items())
    skipped = f", {len(facts['skipped'])} files skipped" if facts["skipped"] else ""
    late = ", decoded on the fly" if facts.get("decode") == "on_the_fly" else ""
    unused = facts.get("left_out", {})
    phrases = [
        *(
            f"left out: {entry['count']:,} x {left_out.REASONS[reason][0]}"
            for reason, entry in unused.items()
            if not left_out.REASONS[reason][1]
        ),
        *facts.get("notes", []),
        *left_out.sentences(unused),
        *(copies.sentences(facts["copies"]) if "copies" in facts else []),
        *in_words(facts.get("decoding", {})),
    ]
    more = "".join(f"; {phrase}" for phrase in phrases)
    return f"{facts['classes']} classes: {counts} images{skipped}{late}{more}"


STAGE = Stage(
    name="data",
    does="decodes once, resizes, splits",
    leaves="packed images, a list of what could not be read",
    version=6,
    inputs=(),
    arguments=_arguments,
    sources=_sources,
    run=_run,
    summary=_summary,
    # The originals' digests are in test_contents.json, which counts.
    volatile=frozenset({ROOT_FILE, ORIGINALS_FILE}),
)
