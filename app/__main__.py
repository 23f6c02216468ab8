"""``python -m app``: the same as the command ``flexcore``."""

from app.cli.main import main

if __name__ == "__main__":
    main()
