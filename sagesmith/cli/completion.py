"""`sagesmith completion`: the completion script of a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from sagesmith.cli import main


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    Examples:
      eval "$(sagesmith completion bash)"
      sagesmith completion fish > ~/.config/fish/completions/sagesmith.fish
    """
    completion = get_completion_class(shell)
    assert completion is not None
    click.echo(completion(main, {}, "sagesmith", "_SAGESMITH_COMPLETE").source())
