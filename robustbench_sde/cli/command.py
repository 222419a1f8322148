"""Parse command lines, and show --help, as every command does: an option with one value is given once."""

import sys
from typing import Any

import typer
from typer.core import TyperCommand

from robustbench_sde.cli.brief_help import help_all_option, print_rare, rare_of

#: Class that Typer raises for arguments that it cannot parse (its home differs between versions of Typer).
UsageError: Any = typer.BadParameter.__bases__[0]


class OnceCommand(TyperCommand):
    """Command that refuses a repeated option, unless the option collects its values."""

    #: the option `--help-all`, made once it is asked for; None in a command with few rare options
    _help_all: Any = None
    #: parameters that the help that is being printed names elsewhere
    _left_out: list[Any] = []  # noqa: RUF012 (replaced as a whole)

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters; in --help flags and arguments have no type behind them."""
        parameters = list(super().get_params(ctx))
        if self._help_all is None:
            shown = next((each for each in parameters if "--help" in each.opts), None)
            self._help_all = shown and help_all_option(shown, self._print_whole_help)
        parameters += [self._help_all] if self._help_all else []
        parameter: Any
        for parameter in parameters:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
            elif parameter.param_type_name == "argument":  # <list[Path]> says nothing to people
                parameter.display_type_rich = lambda ctx: None
        left_out = set(map(id, self._left_out))
        return [each for each in parameters if id(each) not in left_out]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help with common options in full and rare ones in a line each."""
        rare = rare_of(self.name or "", self.params)
        # options about help are named beside rare ones; without those, --help is all there is
        about_help = {"--help", "--help-all"} if rare else {"--help-all"}
        elsewhere = [*rare, *(each for each in self.get_params(ctx) if about_help & {*each.opts})]
        self._left_out = elsewhere
        try:
            super().format_help(ctx, formatter)
        finally:
            self._left_out = []
        if rare:
            print_rare(elsewhere)

    def _print_whole_help(self, ctx: Any) -> None:
        super().format_help(ctx, ctx.make_formatter())

    def parse_args(self, context: Any, arguments: list[str]) -> list[str]:
        """Parse the arguments of the command.

        Raises:
            typer.BadParameter: an option with one value is given twice, which would drop the first value;
                `--checkpoint` is given to a command whose checkpoints are arguments; or two formats are
                given.
        """
        names = {name for parameter in self.params for name in parameter.opts}
        if "--checkpoint" in arguments and "--checkpoint" not in names:
            raise typer.BadParameter(
                f"checkpoints are named without it: {context.command_path} NAME",
                ctx=context,
                param_hint="'--checkpoint'",
            )
        try:
            _, _, order = self.make_parser(context).parse_args(args=list(arguments))
        except UsageError as error:
            error.ctx = context  # without it, the line would name the help of the whole program
            raise
        for parameter in {id(each): each for each in order}.values():
            flag = getattr(parameter, "is_flag", False) or parameter.param_type_name == "argument"
            several = flag or getattr(parameter, "multiple", False)
            if order.count(parameter) > 1 and not several:
                raise typer.BadParameter(
                    f"it is given {order.count(parameter)} times and takes one value",
                    ctx=context,
                    param_hint=f"'{parameter.opts[0]}'",
                )
        left = super().parse_args(context, arguments)
        self._choose_output(context)
        return left

    def _choose_output(self, context: Any) -> None:
        """Obey `-o`: what is printed as JSON is asked for by `json`, and other tables by their format."""
        asked = context.params.get("output", "table")
        if context.params.get("json") and asked != "table":
            raise typer.BadParameter(
                "it and --json are two formats; give one", ctx=context, param_hint="'-o'"
            )
        if asked == "json":
            context.params["json"] = True
        if asked in ("csv", "md") or "robustbench_sde.reporting.terminal" in sys.modules:
            from robustbench_sde.reporting.terminal import print_tables_as

            print_tables_as(asked)
