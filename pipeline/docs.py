"""Writes what is generated: the editors' schema and the configuration reference. `make docs` runs it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from export.engine_kinds import ENGINE_KINDS
from figkd.loss.methods import METHODS
from pipeline.config.json_schema import json_schema
from pipeline.config.layers import MAX_FILES
from pipeline.config.problems import MAX_TOLD
from pipeline.config.schema import DeployConfig
from pipeline.config.text import MAX_BYTES
from pipeline.config.yaml_tree import MAX_DEPTH, MAX_TEXT, MAX_VALUES
from pipeline.core.errors import Exit
from pipeline.core.files import write_text
from pipeline.stages.table import STAGES

_INTRO = f"""\
# Configuration reference

Generated from the schema by `make docs`; do not edit. `figkd-pipeline config show CONFIG` prints a config with
every default filled in. `figkd-pipeline config check CONFIG` lists all problems of a config at once.

- **Editors.** The first line `# yaml-language-server: $schema=deploy.schema.json` of a config gives completion
  and checks in editors with a YAML language server.
- **`extends: other.yaml`** starts from another file, relative to this one. Sections merge key by key, lists are
  replaced, and `null` removes a key of the other file.
- **`--set a.b=c`** sets a key on the command line. The value is YAML.
- **Paths** are relative to where the command runs.
- **Bounds.** A config, with all that it extends and `--set`, has at most {MAX_BYTES // 1000} kB of text, {MAX_FILES}
  files, {MAX_VALUES:,} keys and values, and {MAX_DEPTH} levels. An alias counts as all that it stands for. A text has
  at most {MAX_TEXT:,} characters, on one line. Dates and other YAML types that no key takes are refused, with key and
  line. Of many problems, the first {MAX_TOLD} are listed.
"""

_EXIT_MEANING = {
    Exit.OK: "done: every budget that could be judged is met, or no budget sets a minimum accuracy",
    Exit.STAGE_FAILED: "a stage failed; the artifacts of earlier stages are kept",
    Exit.CONFIG: "the config or the command line is wrong",
    Exit.BUDGET_MISSED: "a budget is missed, or the model is no better than always answering the most frequent class; "
    "everything is kept, and the report says which budget and by how much",
    Exit.ENVIRONMENT: "this machine lacks something: data, disk space, a package or a back end",
    Exit.DEVICE: "a remote device cannot be reached, or failed",
    Exit.BUNDLE_REFUSED: "a bundle is damaged, was changed, or is not signed as required; none of it is used",
    Exit.INTERRUPTED: "interrupted; the same command continues from there",
}
_OUTPUT = """
Only the command itself ends with these codes: `make` ends with 2 whatever fails, and prints the code as `Error N`.

## Output

Results go to stdout; notes, progress and errors go to stderr. If the reader of a pipe ends (`figkd-pipeline run
CONFIG | head -1`), or a stream is closed, the rest of the output is dropped without a message. The work continues,
and the exit code is that of the work. If stdout cannot be written for another reason, such as a full disk, the work
is kept and published, and the code is 4 instead of 0.

On a terminal everything fits into 60 columns or more. In a file or a pipe every message is one line, and no table is
cut. A character that the stream's encoding lacks is replaced by an ASCII one. Control characters, direction marks and
bytes that are not UTF-8, in names and in messages of devices, are written as escapes such as `\\x1b`. `--json` prints
ASCII."""


def configuration_reference() -> str:
    """The reference as Markdown."""
    lines = [_INTRO]
    for path, model in _sections(DeployConfig, ""):
        lines.append(f"## `{path}`\n" if path else "## Top level\n")
        if model.__doc__:
            lines.append(f"{inspect.cleandoc(model.__doc__)}\n")
        lines.append("| key | type | default | meaning |\n| --- | --- | --- | --- |")
        for name, field in model.model_fields.items():
            meaning = " ".join((field.description or "").split()).replace("|", "\\|")
            lines.append(f"| `{name}` | {_type(field)} | {_default(field)} | {meaning} |")
        lines.append("")
        if path == "distill":
            lines.append(f"{methods_table()}\n")
    lines.append("## Exit codes\n\n| code | meaning |\n| --- | --- |")
    lines += [f"| {int(code)} | {meaning} |" for code, meaning in _EXIT_MEANING.items()]
    lines.append(_OUTPUT)
    return "\n".join(lines) + "\n"


def methods_table() -> str:
    """The methods of distillation as a table."""
    rows = [
        f"| `{name}` | {method.summary} | {method.paper} | {'yes' if method.needs_teacher else 'no'} |"
        for name, method in METHODS.items()
    ]
    head = "| method | what is added to the cross entropy | paper | needs the teacher |\n| --- | --- | --- | --- |"
    return "\n".join([head, *rows])


def _sections(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    yield path, model
    for name, field in model.model_fields.items():
        section = _section(field.annotation)
        if section is not None:
            inner = f"{path}.{name}" if path else name
            if get_origin(field.annotation) is dict:
                inner += ".<name>"
            if path == "budgets" and name != "top1":
                continue  # all goals have the same keys
            yield from _sections(section, inner)


def _section(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for a in get_args(annotation) if (found := _section(a)) is not None), None)


def _type(field: FieldInfo) -> str:
    return _type_name(field.annotation) + _bounds(field.metadata)


def _bounds(metadata: Iterable[Any]) -> str:
    limits = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    found = [
        f", {sign} {_number(getattr(m, name))}"
        for m in _flat(metadata)
        for name, sign in limits.items()
        if getattr(m, name, None) is not None
    ]
    return "".join(found)


def _flat(metadata: Iterable[Any]) -> Iterator[Any]:
    for each in metadata:
        yield from _flat(each.metadata) if isinstance(each, FieldInfo) else (each,)


def _number(value: float) -> str:
    """In full, unless that is long."""
    return f"{value:,}" if isinstance(value, int) and abs(value) < 10**10 else f"{value:g}"


def _type_name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is type(None):
        return "null"
    if origin is dict:
        inner = _type_name(arguments[1])
        return "sections by name" if inner == "section" else f"mapping of {inner}"
    if origin is list:
        return f"list of {_type_name(arguments[0])}"
    if arguments and all(isinstance(a, str) for a in arguments):
        return " \\| ".join(f"`{a}`" for a in arguments)
    if hasattr(annotation, "__metadata__"):
        return _type_name(arguments[0]) + _bounds(annotation.__metadata__)
    if arguments:
        return " \\| ".join(_type_name(a) for a in arguments)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return {
        "Path": "path",
        "JsonValue": "value",
        "str": "text",
        "bool": "true/false",
        "int": "integer",
        "float": "number",
    }.get(getattr(annotation, "__name__", str(annotation)), repr(annotation))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "see below"
    return f"`{json.dumps(str(value) if isinstance(value, Path) else value)}`"


def rules_table() -> str:
    """The rules of INT8 as rows of docs/precision.md."""
    from export.precision import RULES

    rows = []
    for rule in RULES:
        layouts = "both" if len(rule.layouts) == 2 else ENGINE_KINDS[rule.layouts[0]].label
        optional = " (`without_rules`)" if rule.optional else ""
        rows.append(f"| `{rule.name}`{optional} | {layouts} | {rule.does} | {rule.because} |")
    return "\n".join(rows)


def stages_table() -> str:
    """The stages as a table."""
    rows = [f"| `{stage.name}` | {stage.does} | {stage.leaves} |" for stage in STAGES]
    return "\n".join(["| stage | does | leaves |", "| --- | --- | --- |", *rows])


def engines_table() -> str:
    """What engines there are."""
    head = "| `engine:` | builds | runs | an engine is for | precisions | keys of its own |"
    rows = []
    for name, kind in ENGINE_KINDS.items():
        keys = ", ".join(f"`{key}`" for key in (*kind.options, *kind.builder))
        precisions = ", ".join(kind.precisions)
        rows.append(f"| `{name}` | {kind.builds} | {kind.runs} | {kind.fits} | {precisions} | {keys} |")
    return "\n".join([head, "| --- | --- | --- | --- | --- | --- |", *rows])


def between(text: str, mark: str, content: str) -> str:
    """`text` with `content` between its lines `<!-- mark: begin -->` and `<!-- mark: end -->`."""
    begin, end = f"<!-- {mark}: begin -->\n", f"<!-- {mark}: end -->"
    head, rest = text.split(begin)
    return f"{head}{begin}{content}\n{end}{rest.split(end, 1)[1]}"


def main() -> None:
    """Write the generated files into the working copy."""
    root = Path(__file__).resolve().parent.parent
    precision = root / "docs" / "precision.md"
    write_text(precision, between(precision.read_text(encoding="utf-8"), "rules", rules_table()))
    engines = root / "docs" / "engines.md"
    write_text(engines, between(engines.read_text(encoding="utf-8"), "engines", engines_table()))
    readme = root / "README.md"
    write_text(readme, between(readme.read_text(encoding="utf-8"), "stages", stages_table()))
    write_text(root / "deploy_configs" / "deploy.schema.json", json.dumps(json_schema(), indent=1) + "\n")
    write_text(root / "docs" / "configuration.md", configuration_reference())


if __name__ == "__main__":
    main()
