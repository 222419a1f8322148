"""Parse command lines as every command does: an option with one value is given once."""

import sys
from typing import Any

import typer
from typer.core import TyperCommand


class OnceCommand(TyperCommand):
    """Command that refuses a repeated option, unless the option collects its values."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters; in --help flags have no type, which would stand behind each as <bool>."""
        parameters = super().get_params(ctx)
        for parameter in parameters:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
        return parameters

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
        _, _, order = self.make_parser(context).parse_args(args=list(arguments))
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
