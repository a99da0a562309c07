"""`python -m orchestrator`."""

from orchestrator.cli.application import main

if __name__ == "__main__":
    main()
