"""What a drill puts into the service's processes."""

from pathlib import Path

# For PYTHONPATH.
FOLDER = Path(__file__).parent
