"""``python -m seprog`` is the command ``seprog``."""

from seprog.cli.main import run

if __name__ == "__main__":
    run()
