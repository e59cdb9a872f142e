"""`python -m llmforge`."""

from llmforge.cli import main

if __name__ == "__main__":
    main()
