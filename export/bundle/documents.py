"""The documents of a bundle: card, bill of materials (CycloneDX 1.6) and provenance (in-toto, SLSA v1)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from export.bundle.content import Content

BUILDER = "https://pypi.org/project/figkd-pipeline"
"""Names the program, as PyPI would."""
TASK = "image-classification"
RUN = "    python3 run.pyz classify PHOTO --top 3\n\n"
"""How a bundle is run, in its card."""
RUNS = ", `run.pyz` does it"
"""What does the preprocessing, in its card."""


def card(content: Content) -> str:
    """The model card: Markdown with the front matter that Hugging Face reads."""
    accuracy, engine = content.measured.accuracy, content.engine
    licence = content.licence.lower() if content.licence != "NOASSERTION" else "other"
    machine = ", ".join(f"{name} {_text(value)}" for name, value in sorted(content.measured.machine.items()))
    top = [
        "---",
        f"license: {json.dumps(licence)}",
        f"pipeline_tag: {TASK}",
        f"library_name: {engine.backend}",
        "tags:",
        "- knowledge-distillation",
        f"- {engine.precision}",
        "---",
        f"# {content.name} for {content.target}",
        "",
        content.summary,
        "",
        f"An image classifier with {len(content.classes)} classes in {engine.precision.upper()} for {engine.backend}: "
        f"{_text(content.lineage.student)}, distilled from {_text(content.lineage.teacher)} by "
        f"{_text(content.lineage.method)} on the data set {_text(content.lineage.data)}.",
        "",
        RUN[:-2],
        "",
        "## Verdict",
        "",
        f"`{content.verdict}`",
        "",
        "## Measured",
        "",
        f"On: {machine or 'not told'}.",
        "",
    ]
    rows = [f"| {name} | {_text(value)} |" for name, value in sorted(accuracy.items())]
    table = ["| accuracy, percent of the test images | |", "| --- | --- |", *rows, ""] if rows else []
    times = [
        f"| {_text(row['boundary'])} | {row['batch']} | {row['median_ms']} | {row['p99_ms'] or '-'} | {row['n']} |"
        for row in content.measured.latency
    ]
    if times:
        table += [
            "| latency | batch | median, ms | p99, ms | n |", "| --- | --- | --- | --- | --- |", *times, "",
        ]  # fmt: skip
    judged = [
        f"| {_text(row['metric'])} | {row['goal']} {row['limit']} | {row['value'] or '-'} | {row['verdict']} |"
        for row in content.measured.budgets
    ]
    if judged:
        table += ["| budget | goal | value | |", "| --- | --- | --- | --- |", *judged, ""]
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


def bill_of_materials(content: Content, digests: Mapping[str, str]) -> dict[str, object]:
    """CycloneDX 1.6: the model with its card, and the packages that made it.

    Args:
        content: of the bundle.
        digests: SHA-256 (hex) of the engine's files, by name.
    """
    metrics = [
        {"type": name, "value": value, "slice": "test"}
        for name, value in sorted(content.measured.accuracy.items())
        if name not in ("n", "source")
    ]
    metrics += [
        {"type": f"latency median, ms, {row['boundary']}, batch {row['batch']}", "value": row["median_ms"]}
        for row in content.measured.latency
    ]
    model = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": content.name,
        "version": str(content.sequence),
        "hashes": [{"alg": "SHA-256", "content": digests[content.engine.file]}],
        "licenses": [{"license": {"name": content.licence}}],
        "modelCard": {
            "modelParameters": {
                "task": TASK,
                "modelArchitecture": content.lineage.student,
                "datasets": [{"type": "dataset", "name": content.lineage.data}],
                "inputs": [{"format": "image"}],
                "outputs": [{"format": "class"}],
            },
            "quantitativeAnalysis": {"performanceMetrics": metrics},
        },
    }
    packages = [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name.lower()}@{version}",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name.lower()}@{version}",
        }
        for name, version in sorted(content.measured.packages.items())
        if version
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, digests[content.engine.file])}",
        "version": 1,
        "metadata": {"timestamp": content.created, "component": model},
        "components": packages,
    }


def provenance(content: Content, digests: Mapping[str, str]) -> dict[str, object]:
    """An in-toto statement with the SLSA v1 predicate; arguments as for `bill_of_materials`."""
    lineage = content.lineage
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(digests.items())],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": f"{BUILDER}/bundle/v1",
                "externalParameters": {
                    "config": {"sha256": lineage.config_sha256},
                    "target": content.target,
                    "precision": content.engine.precision,
                },
                "internalParameters": {"steps": [dict(step) for step in lineage.steps]},
                "resolvedDependencies": [
                    {"uri": f"pkg:pypi/{name.lower()}@{version}"}
                    for name, version in sorted(content.measured.packages.items())
                    if version
                ],
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
