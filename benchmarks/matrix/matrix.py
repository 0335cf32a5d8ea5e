"""Every student a user would pick, at every precision, in every engine that can be made here: one table.

    python benchmarks/matrix/matrix.py [--students resnet18 'figkd/*'] [--capabilities SM86] [--markdown]

Each row (student, precision, engine) is kept as JSON under .figkd/matrix/ as soon as it is there, so a run that was
stopped goes on. A row counts as long as the versions of the tools and the package's own code are the ones that made
it; `--any-code` takes rows of other code too. A run over all students writes benchmarks/results/matrix.json and the
table in docs/students.md; `--markdown` only writes the table again from that file. Exit code 1: a row failed.

The networks have no trained weights: docs/students.md says what the numbers mean and what they do not.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # runs from a plain checkout

from students import STUDENTS, Student  # noqa: E402
from table import write_table  # noqa: E402

from pipeline.core.files import read_json, write_json  # noqa: E402
from pipeline.places import environment  # noqa: E402

OUT = ROOT / "benchmarks" / "results" / "matrix.json"
DOC = ROOT / "docs" / "students.md"
CACHE = ROOT / ".figkd" / "matrix"
TOOLS = ("torch", "torchvision", "timm", "onnx", "onnxscript", "onnxslim", "onnxruntime", "tensorrt_rtx")
_CODE = (
    "export/*.py",
    "export/precision/*.py",
    "export/engines/*.py",
    "figkd/models.py",
    "figkd/networks/*.py",
)

Row = dict[str, Any]


def code_digest() -> str:
    """Of everything of ours that a row depends on."""
    digest = hashlib.sha256()
    for pattern in (*_CODE, "benchmarks/matrix/conversions.py"):
        for file in sorted(ROOT.glob(pattern)):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def chosen(patterns: Sequence[str]) -> list[Student]:
    """The students that any shell pattern matches, by their full or short name; all of them for no pattern."""
    found = [
        s for s in STUDENTS if not patterns or any(fnmatchcase(s.name, p) or s.short == p for p in patterns)
    ]
    unknown = [p for p in patterns if not any(fnmatchcase(s.name, p) or s.short == p for s in STUDENTS)]
    if unknown:
        names = ", ".join(student.short for student in STUDENTS)
        raise SystemExit(f"error: no student matches {unknown[0]!r}\n  fix: one of {names}")
    return found


def cached(folder: Path, code: str, any_code: bool) -> dict[tuple[str, str], Row]:
    """(precision, engine) to row, of what is there and counts."""
    rows = [read_json(file) for file in sorted(folder.glob("*.json"))]
    return {(row["precision"], row["engine"]): row for row in rows if any_code or row["code"] == code}


def rows_of(
    student: Student,
    capabilities: Sequence[str],
    tools: dict[str, str],
    code: str,
    any_code: bool,
    cache: Path,
) -> list[Row]:
    """All rows of one student, made where they are not cached."""
    import conversions

    key = hashlib.sha256(json.dumps([tools, student.image_size], sort_keys=True).encode()).hexdigest()[:12]
    folder = cache / student.name.replace("/", "_") / key
    wanted = list(conversions.cells(capabilities))
    have = cached(folder, code, any_code)
    missing = [cell for cell in wanted if cell not in have]
    if missing:
        files = folder / f"files-{code}"

        def keep(row: Row) -> None:
            row = row | {"code": code, "revision": environment.git_revision()}
            have[row["precision"], row["engine"]] = row
            write_json(folder / f"{row['precision']}-{row['engine'].replace('/', '-')}.json", row)
            said = row.get("detail") or ""
            print(
                f"{student.name} {row['precision']} {row['engine']}: {row['state']} {said[:160]}", flush=True
            )

        conversions.convert(student, files, missing, keep)
        if all(have[cell]["state"] != "failed" for cell in wanted):
            shutil.rmtree(files, ignore_errors=True)
    return [have[cell] for cell in wanted]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", nargs="+", default=[], help="names, short names or shell patterns")
    parser.add_argument(
        "--capabilities", nargs="+", default=None, help="of TensorRT-RTX; default: all that it knows"
    )
    parser.add_argument("--threads", type=int, default=1, help="of torch; ONNX Runtime runs on one")
    parser.add_argument("--any-code", action="store_true", help="take cached rows of other code of ours too")
    parser.add_argument("--markdown", action="store_true", help="only write the table from the last result")
    parser.add_argument("--out", type=Path, default=OUT, help="of another place: no table is written")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of finished rows")
    arguments = parser.parse_args()
    if arguments.markdown:
        write_table(read_json(arguments.out), DOC)
        return 0
    students = chosen(arguments.students)

    import torch
    from conversions import CALIBRATION_IMAGES, CAPABILITIES, CHECKED_IMAGES

    torch.set_num_threads(arguments.threads)
    tools, code = environment.versions(TOOLS), code_digest()  # now: sources may change while this runs
    rows: list[Row] = []
    for student in students:
        rows += rows_of(
            student, arguments.capabilities or CAPABILITIES, tools, code, arguments.any_code, arguments.cache
        )
    result = {
        "what": "every student through export, precision and engines; networks without training",
        "date": datetime.date.today().isoformat(),
        "images": {"calibration": CALIBRATION_IMAGES, "checked": CHECKED_IMAGES, "data": "1/f noise"},
        "machine": {"cpu": environment.cpu_model(), "gpu": environment.gpu_name()},
        "packages": tools,
        "rows": rows,
    }
    whole = not arguments.students and arguments.capabilities is None
    if whole or arguments.out != OUT:
        write_json(arguments.out, result)
    if whole and arguments.out == OUT:
        write_table(read_json(OUT), DOC)  # as `--markdown` would: in the file, keys are sorted
    failed = [row for row in rows if row["state"] == "failed"]
    print(f"{len(students)} students, {len(rows)} rows, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
