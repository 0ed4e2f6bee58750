"""`python -m vita_duplex`: the command line."""

from vita_duplex.cli.main import main

if __name__ == "__main__":
    main()
