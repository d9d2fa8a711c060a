"""Build the explorable, check a vector that it exported, or measure how fast it answers.

python -m docs.explorable build PAGE.html
python -m docs.explorable check VECTOR.json
python -m docs.explorable measure
"""

from __future__ import annotations

import argparse
from pathlib import Path

from docs.explorable import measure, page, vector
from refdesign.errors import RefdesignError


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser("build", help="write the page").add_argument("file", type=Path)
    commands.add_parser("check", help="compute an exported vector again").add_argument("file", type=Path)
    commands.add_parser("measure", help="time the page in a browser")
    arguments = parser.parse_args()
    if arguments.command == "measure":
        print("\n".join(measure.measure()))
        return
    if arguments.command == "build":
        arguments.file.write_text(page.html(), encoding="utf-8")
        print(f"{arguments.file}: {arguments.file.stat().st_size / 1e6:.2f} MB")
        return
    try:
        found = list(vector.differences(vector.read(arguments.file)))
    except RefdesignError as error:
        raise SystemExit(str(error)) from None
    print("\n".join(found) or "equal: every bit of both maps, and every value of the chosen pixel")
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
