#!/usr/bin/env python
"""Entry point for Sunledger's management commands."""

import os
import sys


def main() -> None:
    """Run the management command named on the command line."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "market.config.settings")
    if sys.argv[1:2] == ["demo"]:
        os.environ.setdefault("SUNLEDGER_DEMO", "1")
        for option, value in zip(sys.argv, sys.argv[1:], strict=False):
            if option == "--data":  # settings are read before a command sees its options
                os.environ["SUNLEDGER_DATA"] = value
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
