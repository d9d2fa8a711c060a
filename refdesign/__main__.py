"""`python -m refdesign` is the command `refdesign`."""

from refdesign.cli import main

if __name__ == "__main__":
    main()
