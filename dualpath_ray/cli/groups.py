"""A click group whose help lists its commands in sections."""

import click


class GroupedCommands(click.Group):
    """``section`` of a command added with ``add`` is the heading that it stands under."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # click's own, handed on
        self._sections: dict[str, list[str]] = {}

    def add(self, section: str, command: click.Command) -> None:
        self.add_command(command)
        assert command.name is not None
        self._sections.setdefault(section, []).append(command.name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which a newcomer needs them."""
        return [name for names in self._sections.values() for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(len(name) for name in self.list_commands(ctx))
        for section, names in self._sections.items():
            with formatter.section(section):
                rows = [(name.ljust(width), self.commands[name].get_short_help_str(80)) for name in names]
                formatter.write_dl(rows)
