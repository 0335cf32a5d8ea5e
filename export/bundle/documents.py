"""The documents of a bundle: card, bill of materials (CycloneDX 1.6) and provenance (in-toto, SLSA v1)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from export.bundle.content import Content, Measured, Packed
from export.runtime.bundle.manifest import EngineEntry, Needs

BUILDER = "https://pypi.org/project/figkd-pipeline"
"""Names the program, as PyPI would."""
TASK = "image-classification"
RUN = "    python3 run.pyz classify PHOTO --top 3\n\n"
"""How a bundle is run, in its card."""
RUNS = ", `run.pyz` does it"
"""What does the preprocessing, in its card."""


def card(content: Content) -> str:
    """The model card: Markdown with the front matter that Hugging Face reads."""
    entries = [packed.entry for packed in content.engines]
    licence = content.licence.lower() if content.licence != "NOASSERTION" else "other"
    kinds = [f"{entry.precision.upper()} for {entry.backend}" for entry in entries]
    top = [
        "---",
        f"license: {json.dumps(licence)}",
        f"pipeline_tag: {TASK}",
        f"library_name: {entries[0].backend}",
        "tags:",
        "- knowledge-distillation",
        *(f"- {precision}" for precision in dict.fromkeys(entry.precision for entry in entries)),
        "---",
        f"# {content.name} for {content.target}",
        "",
        content.summary,
        "",
        f"An image classifier with {len(content.classes)} classes in {' and '.join(dict.fromkeys(kinds))}: "
        f"{_text(content.lineage.student)}, distilled from {_text(content.lineage.teacher)} by "
        f"{_text(content.lineage.method)} on the data set {_text(content.lineage.data)}.",
        "",
        RUN[:-2],
        "",
        *_choice(entries),
        "## Verdict",
        "",
        f"`{content.verdict}`",
        "",
        "## Measured",
        "",
    ]
    table = []
    for packed in content.engines:
        table += ["", f"### {packed.entry.name}", ""] if len(entries) > 1 else []
        table += _measurements(packed.measured)
    spec = content.preprocessing
    end = [
        "## Preprocessing",
        "",
        f"Decoded to upright RGB; the centre square resized to {spec.side} pixels (bicubic, antialiased); its centre "
        f"{spec.size} x {spec.size} as {spec.dtype}. `preprocess.json` says it to the bit{RUNS}.",
        "",
        "## Limits",
        "",
        "It answers with one of its classes whatever an image shows. Accuracy holds for images like the test images.",
        "",
    ]
    return "\n".join([*top, *table, *end])


def _choice(entries: Sequence[EngineEntry]) -> list[str]:
    if len(entries) == 1:
        return []
    rows = [
        f"| {entry.name} | {entry.backend} | {entry.precision} | {_text(_needed(entry.needs))} |"
        for entry in entries
    ]
    return [
        "## Engines",
        "",
        "A device takes the first that fits it.",
        "",
        "| engine | library | precision | for |", "| --- | --- | --- | --- |", *rows, "",
    ]  # fmt: skip


def _needed(needs: Needs) -> str:
    """The machine that an engine is for, in words."""
    parts = [
        needs.architecture,
        " or ".join(needs.compute_capability),
        f"L4T {needs.l4t}" if needs.l4t else "",
        *(f"{package} {version}" for package, version in sorted(needs.versions.items())),
        f"a CPU with {' or '.join(needs.cpu_features)}" if needs.cpu_features else "",
    ]
    return ", ".join(filter(None, parts)) or "any machine"


def _measurements(measured: Measured) -> list[str]:
    machine = ", ".join(f"{name} {_text(value)}" for name, value in sorted(measured.machine.items()))
    rows = [f"| {name} | {_text(value)} |" for name, value in sorted(measured.accuracy.items())]
    table = [f"On: {machine or 'not recorded'}.", ""]
    table += ["| accuracy, percent of the test images | |", "| --- | --- |", *rows, ""] if rows else []
    times = [
        f"| {_text(row['boundary'])} | {row['batch']} | {row['median_ms']} | {row['p99_ms'] or '-'} | {row['n']} |"
        for row in measured.latency
    ]
    if times:
        table += [
            "| latency | batch | median, ms | p99, ms | n |", "| --- | --- | --- | --- | --- |", *times, "",
        ]  # fmt: skip
    judged = [
        f"| {_text(row['metric'])} | {row['goal']} {row['limit']} | {row['value'] or '-'} | {row['verdict']} |"
        for row in measured.budgets
    ]
    if judged:
        table += ["| budget | goal | value | |", "| --- | --- | --- | --- |", *judged, ""]
    return table


def bill_of_materials(content: Content, digests: Mapping[str, str]) -> dict[str, object]:
    """CycloneDX 1.6: the model with its card, and the packages that made it.

    Args:
        content: of the bundle.
        digests: SHA-256 (hex) of the engine's files, by name.
    """
    model: dict[str, object] = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": content.name,
        "version": str(content.sequence),
        "licenses": [{"license": {"name": content.licence}}],
    }
    parameters = {
        "task": TASK,
        "modelArchitecture": content.lineage.student,
        "datasets": [{"type": "dataset", "name": content.lineage.data}],
        "inputs": [{"format": "image"}],
        "outputs": [{"format": "class"}],
    }
    if len(content.engines) == 1:
        (packed,) = content.engines
        model["hashes"] = _hashes(packed, digests)
        model["modelCard"] = {"modelParameters": parameters, **_metrics(packed)}
    else:
        model["modelCard"] = {"modelParameters": parameters}
        model["components"] = [
            {
                "type": "machine-learning-model",
                "bom-ref": f"engine:{packed.entry.name}",
                "name": packed.entry.name,
                "hashes": _hashes(packed, digests),
                "modelCard": _metrics(packed),
            }
            for packed in content.engines
        ]
    packages = [
        {
            "type": "library",
            "bom-ref": url,
            "name": name,
            "version": version,
            "purl": url,
        }
        for name, version, url in _packages(content)
    ]
    engines = "".join(digests[packed.entry.file] for packed in content.engines)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, engines)}",
        "version": 1,
        "metadata": {"timestamp": content.created, "component": model},
        "components": packages,
    }


def _packages(content: Content) -> list[tuple[str, str, str]]:
    """Name, version and package URL of what made the engines."""
    versions = {name: v for packed in content.engines for name, v in packed.measured.packages.items() if v}
    return [
        (name, version, f"pkg:pypi/{name.lower()}@{version}") for name, version in sorted(versions.items())
    ]


def _hashes(packed: Packed, digests: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digests[packed.entry.file]}]


def _metrics(packed: Packed) -> dict[str, object]:
    """The part of a component's model card that was measured."""
    found = [
        {"type": name, "value": value, "slice": "test"}
        for name, value in sorted(packed.measured.accuracy.items())
        if name not in ("n", "source")
    ]
    found += [
        {"type": f"latency median, ms, {row['boundary']}, batch {row['batch']}", "value": row["median_ms"]}
        for row in packed.measured.latency
    ]
    return {"quantitativeAnalysis": {"performanceMetrics": found}}


def provenance(content: Content, digests: Mapping[str, str]) -> dict[str, object]:
    """An in-toto statement with the SLSA v1 predicate; arguments as for `bill_of_materials`."""
    lineage, entries = content.lineage, [packed.entry for packed in content.engines]
    what: dict[str, object] = {"config": {"sha256": lineage.config_sha256}, "target": content.target}
    if len(entries) == 1:
        what["precision"] = entries[0].precision
    else:
        what["engines"] = {entry.name: entry.precision for entry in entries}
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(digests.items())],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": f"{BUILDER}/bundle/v1",
                "externalParameters": what,
                "internalParameters": {"steps": [dict(step) for step in lineage.steps]},
                "resolvedDependencies": [{"uri": url} for _, _, url in _packages(content)],
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": {"git": lineage.git}},
                "metadata": {"finishedOn": content.created},
            },
        },
    }


def json_bytes(value: Any) -> bytes:
    """A document as JSON; the same for the same value."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode("utf-8")


def _text(value: str) -> str:
    """A name in a line or a table's cell."""
    shown = "".join(c if c.isprintable() else " " for c in value)
    return shown.replace("|", "\\|").replace("<", "&lt;")
