"""`export-to`: a bundle in the form that others take."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from export.terminal import one_line
from pipeline.cli.bundles import BUNDLE, TRUST, UNSIGNED, trust_of
from pipeline.cli.options import JSON, QUIET, common, interface
from pipeline.core.errors import ConfigError, EnvironmentFault

if TYPE_CHECKING:
    from export.progress import Progress
    from export.publish.folder import Content
    from export.publish.reference import Reference
    from export.publish.source import Source
    from export.publish.transfer import Place

_OUT = click.argument("out", metavar="OUT", type=click.Path(path_type=Path))


@click.group("export-to")
def export_to() -> None:
    """Write a bundle in the format of another server or registry. The engine's bytes stay the same.

    OUT is a folder, written whole or not at all. It may be what this command wrote there before, unchanged since;
    anything else is refused.
    """


_ENGINE = click.option(
    "--engine",
    default="",
    metavar="NAME",
    help="Of a bundle with several engines, which; default: the first.",
)


@export_to.command("triton")
@click.argument("paths", metavar="BUNDLE... OUT", nargs=-1, type=click.Path(path_type=Path))
@common(TRUST, UNSIGNED, _ENGINE, JSON)
@click.option("--name", default="", metavar="NAME", help="Of the model; default: the bundle's.")
@click.option("--python-backend", is_flag=True, help="Run ONNX Runtime in Triton's Python backend.")
@click.option(
    "--max-batch", type=click.IntRange(1, 4096), default=8, show_default=True,
    help="Largest batch, where the engine takes any.",
)  # fmt: skip
def triton(
    paths: tuple[Path, ...],
    trust_file: Path | None,
    unsigned: bool,
    engine: str,
    as_json: bool,
    name: str,
    python_backend: bool,
    max_batch: int,
) -> None:
    """Write a model repository for NVIDIA Triton.

    Several bundles of one run make one model, if they hold TensorRT engines for different kinds of GPU.
    """
    from export.publish import triton

    if len(paths) < 2:
        raise click.UsageError("give a bundle and the folder to write")
    *bundles, out = paths
    options = triton.Options(name, python_backend, max_batch)
    with _faults(out):
        sources = [_open(bundle, trust_file, unsigned, engine) for bundle in bundles]
        _write(out, triton.repository(sources, options), triton.KIND, sources, as_json=as_json)


@export_to.command("hf")
@common(BUNDLE, _OUT, TRUST, UNSIGNED, _ENGINE, JSON)
def hugging_face(
    bundle_path: Path, out: Path, trust_file: Path | None, unsigned: bool, engine: str, as_json: bool
) -> None:
    """Write a model repository for Hugging Face: card, config.json, model.onnx. Nothing is uploaded."""
    from export.publish import hugging_face

    with _faults(out):
        source = _open(bundle_path, trust_file, unsigned, engine)
        _write(out, hugging_face.repository(source), hugging_face.KIND, [source], as_json=as_json)


_CA = click.option(
    "--ca", type=click.Path(path_type=Path), metavar="PEM", help="The registry's certificate authority."
)
_PLAIN = click.option(
    "--plain-http", is_flag=True, help="The registry has no TLS; one on this machine needs none."
)
_DOCKER = click.option(
    "--docker-config", type=click.Path(path_type=Path), metavar="FOLDER", envvar="DOCKER_CONFIG",
    default=Path("~/.docker"), help="Where `docker login` leaves logins; default $DOCKER_CONFIG, else ~/.docker.",
)  # fmt: skip


@export_to.command("oci")
@BUNDLE
@click.argument("where", metavar="REF|LAYOUT")
@common(TRUST, UNSIGNED, _CA, _PLAIN, _DOCKER, JSON, QUIET)
def oci(
    bundle_path: Path,
    where: str,
    trust_file: Path | None,
    unsigned: bool,
    ca: Path | None,
    plain_http: bool,
    docker_config: Path,
    as_json: bool,
    quiet: bool,
) -> None:
    """Push a bundle and its signatures to an OCI registry (CNCF ModelPack), or into an OCI image layout.

    REF is HOST[:PORT]/NAME[:TAG]; LAYOUT is [oci:]FOLDER[:TAG]. What is there already is not sent again.
    """
    from export.publish.layout import Layout
    from export.publish.reference import Reference, parse
    from export.publish.transfer import push
    from pipeline.core.terminal import print_json, stdout

    with _faults(Path(where)):
        reference = parse(where)
        if isinstance(reference, Reference) and reference.digest:
            raise click.UsageError("a push has a tag: the digest follows from the bundle")
        source = _open(bundle_path, trust_file, unsigned)
        place: Place
        if isinstance(reference, Reference):
            place = _registry(reference, ca, plain_http, docker_config)
        else:
            place = Layout(reference)
            place.prepare()
        with _progress("push", quiet) as progress:
            done = push(source, place, progress)
    if as_json:
        document = {
            "reference": str(reference), "digest": done.digest, "uploaded": done.uploaded, "present": done.present,
            "bytes": done.bytes,
        }  # fmt: skip
        print_json(json.dumps(document, indent=1))
        return
    stdout().say(f"{one_line(str(reference))}", label="pushed: ")
    stdout().say(done.digest, label="digest: ")
    stdout().say(f"{done.uploaded} sent ({done.bytes:,} bytes), {done.present} were there", label="blobs: ")


@click.command()
@click.argument("where", metavar="REF|LAYOUT")
@_OUT
@common(TRUST, UNSIGNED, _CA, _PLAIN, _DOCKER, JSON, QUIET)
def pull(
    where: str,
    out: Path,
    trust_file: Path | None,
    unsigned: bool,
    ca: Path | None,
    plain_http: bool,
    docker_config: Path,
    as_json: bool,
    quiet: bool,
) -> None:
    """Fetch a bundle from an OCI registry or image layout into the folder OUT, with its signatures.

    REF is HOST[:PORT]/NAME[:TAG][@DIGEST]. The signatures are checked before anything large is fetched, and the whole
    bundle before it is put into its place. Exit codes: 0 done, 4 the registry cannot be used, 6 refused.
    """
    from export.publish.layout import Layout
    from export.publish.reference import Reference, parse
    from export.publish.transfer import pull
    from pipeline.core.terminal import print_json, stdout

    with _faults(out):
        reference = parse(where)
        trust = trust_of(trust_file, unsigned)
        if trust is None:
            raise ConfigError("whose signatures count is not known", fix="give --trust FILE, or --unsigned")
        place: Place = (
            _registry(reference, ca, plain_http, docker_config)
            if isinstance(reference, Reference)
            else Layout(reference)
        )
        with _progress("pull", quiet) as progress:
            digest = reference.digest if isinstance(reference, Reference) else ""
            found = pull(place, out, trust, digest, progress)
    if as_json:
        document = {"bundle": found.folder, "release": found.manifest.release, "signers": list(found.signers)}
        print_json(json.dumps(document, indent=1))
        return
    whose = (
        f"signed by {', '.join(key[:16] for key in found.signers)}"
        if found.signers
        else "signatures not checked"
    )
    stdout().say(one_line(found.folder), label="bundle: ")
    stdout().say(f"{found.manifest.release}, {whose}", label="release: ")


def _registry(reference: Reference, ca: Path | None, plain_http: bool, docker_config: Path) -> Place:
    import ssl

    from export.publish.docker_auth import login_for
    from export.publish.registry import Registry
    from export.publish.registry_login import Authority

    context = None
    if ca is not None:
        try:
            context = ssl.create_default_context(cafile=str(ca))
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"no certificates can be read: {error}", where=str(ca)) from error
    login = login_for(reference.host, docker_config.expanduser())
    authority = Authority(login, loopback=reference.loopback)
    return Registry(reference, authority, plain_http=plain_http, context=context)


@contextmanager
def _progress(name: str, quiet: bool) -> Iterator[Progress]:
    ui = interface(-1 if quiet else 0)
    try:
        yield ui.step_started(name, "")
    finally:
        ui.close()


def _open(bundle: Path, trust_file: Path | None, unsigned: bool, engine: str = "") -> Source:
    """A bundle to export; as elsewhere, a note where nobody's signature is checked."""
    from export.publish.source import open_source
    from export.runtime.bundle import UNSIGNED as ANYBODY
    from pipeline.core.terminal import stderr

    if not bundle.exists():
        raise ConfigError("no such bundle", where=str(bundle))
    trust = trust_of(trust_file, unsigned)
    if trust is None:
        note = "no signature was checked: this machine has no trust.json (--trust FILE, or --unsigned)"
        stderr().say(note, label="note: ")
    return open_source(bundle, ANYBODY if trust is None else trust, engine)


def _write(
    out: Path, files: Mapping[str, Content], kind: str, sources: Sequence[Source], *, as_json: bool
) -> None:
    from export.publish.folder import write_folder
    from pipeline.core.terminal import print_json, stdout

    releases = [source.manifest.release for source in sources]
    changed = write_folder(out, files, kind, releases)
    if as_json:
        document = {"out": str(out), "files": sorted(files), "releases": releases, "changed": changed}
        print_json(json.dumps(document, indent=1))
        return
    stdout().say(one_line(str(out)), label="written: " if changed else "up to date: ")


@contextmanager
def _faults(where: Path) -> Iterator[None]:
    """What an export raises, with its exit code: 2 where something else must be asked for."""
    from export.publish.docker_auth import LoginFault
    from export.publish.folder import InTheWay
    from export.publish.reference import BadReference
    from export.publish.registry import RegistryFault
    from export.publish.source import CannotExport
    from pipeline.run.bundles import faults

    try:
        with faults():
            try:
                yield
            except (InTheWay, CannotExport, BadReference) as error:
                raise ConfigError(error.what, fix=error.fix) from error
            except (RegistryFault, LoginFault) as error:
                raise EnvironmentFault(error.what, fix=error.fix) from error
    except OSError as error:
        if error.filename is None:
            error.filename = str(where)  # a write that fails does not say where
        raise
