"""All commands, and every way in which one can end."""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Sequence
from typing import TextIO

import click

from export.terminal import close_streams, open_streams
from pipeline.cli import (
    benchmark,
    bundles,
    configs,
    data,
    devices,
    doctor,
    keys,
    listing,
    planning,
    publishing,
    running,
    scouting,
    searching,
    serving,
    shipping,
    stores,
)
from pipeline.core.errors import ConfigError, EnvironmentFault, Exit, PipelineError
from pipeline.stages import STAGE_NAMES

PROGRAM = "figkd-pipeline"


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]}, epilog=f"Stages: {', '.join(STAGE_NAMES)}."
)
@click.version_option(package_name="figkd-pipeline")
def cli() -> None:
    """From labelled images and one YAML file to a validated, benchmarked inference engine.

    Exit codes: 0 ok, 1 a stage failed, 2 config or usage, 3 a budget is missed (everything is kept),
    4 environment, 5 device, 6 a bundle is refused, 130 interrupted.
    """


for command in (
    running.run,
    planning.plan,
    scouting.scout,
    running.validate,
    running.report,
    benchmark.benchmark,
    doctor.doctor,
    devices.device,
    configs.config,
    configs.init,
    data.data,
    data.download,
    bundles.bundle,
    bundles.predict,
    serving.serve,
    publishing.export_to,
    publishing.pull,
    keys.key,
    shipping.ship,
    listing.list_,
    stores.store,
    searching.search,
):
    cli.add_command(command)


def execute(words: Sequence[str], interrupts: Collection[int] = ()) -> int:
    """Run a command line; the exit code.

    Args:
        words: what follows the program's name.
        interrupts: the signals that came so far. After one, whatever error comes of it is an interruption.

    Output that nobody reads any more (`| head -1`) is dropped, and the work goes on to its own exit code. Output that
    cannot be written otherwise (a full disk) is exit code 4 where the work succeeded.
    """
    open_streams()
    warnings.showwarning = _warn
    as_json = "--json" in words
    code = _invoke(words, interrupts, as_json=as_json)
    if fault := close_streams():
        _say(EnvironmentFault(f"cannot write to stdout: {fault.strerror}", fix="write it to another place"))
        close_streams()
        code = code or Exit.ENVIRONMENT
    return code


def _invoke(words: Sequence[str], interrupts: Collection[int], *, as_json: bool) -> int:
    try:
        return int(cli.main(list(words), prog_name=PROGRAM, standalone_mode=False) or Exit.OK)
    except PipelineError as error:
        fault = error
    except click.ClickException as error:
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            error.show()
            return Exit.CONFIG
        fault = _usage(error)
    except click.Abort:
        return Exit.INTERRUPTED
    except SystemExit as ended:
        if not isinstance(ended.__context__, BrokenPipeError):
            raise
        # click takes every broken pipe for stdout's, which cannot break here.
        fault = _of_system(ended.__context__)
    except OSError as error:
        fault = _of_system(error)
    except MemoryError:
        from pipeline.core.faults import out_of_memory

        fault = out_of_memory()
    except Exception as error:
        fault = _unexpected(error)
    if interrupts:
        return Exit.INTERRUPTED
    _say(fault)
    if as_json:
        from pipeline.core.terminal import print_json

        document = {"what": fault.what, "where": fault.where, "fix": fault.fix}
        print_json(json.dumps({"error": document}, indent=1))
    return fault.exit_code


def _say(fault: PipelineError) -> None:
    from pipeline.core.terminal import stderr

    stderr().error(fault)


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """What a library warns of, in one line; it may quote a file's name."""
    from pipeline.core.terminal import stderr

    stderr().say(f"{category.__name__}: {message}", label="warning: ")


def _usage(error: click.ClickException) -> PipelineError:
    context = getattr(error, "ctx", None)
    fix = f"see {context.command_path} --help" if context else ""
    return ConfigError(error.format_message(), fix=fix)


def _of_system(error: OSError) -> PipelineError:
    from pipeline.core.faults import environment_fault

    return environment_fault(error)


def _unexpected(error: Exception) -> PipelineError:
    """An error of the libraries that nobody turned into ours, or a defect of ours."""
    from pipeline.core.faults import defect

    if (what := getattr(error, "what", None)) is None:
        return defect(error)
    from pipeline.core.errors import StageFailed

    return StageFailed(str(what), fix=str(getattr(error, "fix", "")))
