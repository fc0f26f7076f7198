"""`python -m diagrams` regenerates what is generated."""

from pathlib import Path

from diagrams import regenerate

regenerate(Path(__file__).parent)
