"""``python -m reid_edge`` is ``reid-edge``."""

import signal

__all__ = ["main"]


def main() -> None:
    """Run the command line; ctrl-C while it is being imported ends the process silently, as it does other programs."""
    asked = signal.getsignal(signal.SIGINT)
    if asked is signal.default_int_handler:  # not where a shell has it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .cli import main as command_line

    signal.signal(signal.SIGINT, asked)
    command_line()


if __name__ == "__main__":
    main()
