"""The command line: parses, calls a stage, prints.

Answers go to stdout, as tables or with --json as one JSON object; progress and errors go to stderr.
Exit codes: 0 done; 1 the answer is no; 2 the request can't be served.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from ... import SnnkdError, __version__
from .comparing import compare
from .deploying import check, conformance, export, quantize, validate
from .pricing import energy, profile_show
from .streaming import stream
from .telling import data_fetch, doctor, list_known, report
from .training import train

app = typer.Typer(
    name="snnkd",
    help="From a trained network to a neuromorphic chip: train, export, validate, energy, report.\n\n"
    "Example: snnkd train && snnkd export --target loihi2 && snnkd validate --target loihi2",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Data sets on this machine.", rich_markup_mode=None)
app.add_typer(data_app, name="data")
profile_app = typer.Typer(help="Hardware profiles.", rich_markup_mode=None)
app.add_typer(profile_app, name="profile")

for verb in (train, compare, export, quantize, validate, stream, conformance, energy, report, check):
    app.command()(verb)
app.command("list")(list_known)
app.command()(doctor)
data_app.command("fetch")(data_fetch)
profile_app.command("show")(profile_show)

INTERRUPTED = 130
INTERRUPTION = "interrupted; run the same command again (training goes on with `snnkd train --resume`)"


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
    elif context.invoked_subcommand is None:
        print(context.get_help())


def main() -> None:
    """Run the command line; every failure is one line on stderr."""
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:  # what typer makes of Ctrl-C, without a word
            _fail(INTERRUPTION, INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)
    except SnnkdError as error:
        _fail(str(error), error.exit_code)
    except TyperException as error:
        _fail(error.format_message(), 2)  # pyright: ignore[reportAttributeAccessIssue]
    except (KeyboardInterrupt, typer.Abort):
        _fail(INTERRUPTION, INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        kind = type(error).__name__
        _fail(f"this should not have happened ({kind}: {error}); -v shows where, please report it", 2)


def _fail(message: str, code: int) -> None:
    """Print one line on stderr and exit; -v adds the traceback."""
    print(f"snnkd: {' '.join(message.split())}", file=sys.stderr)
    if {"-v", "--verbose"} & set(sys.argv):
        import traceback

        traceback.print_exc()
    sys.exit(code)
