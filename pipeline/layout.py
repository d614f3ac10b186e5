"""Output folders of the stages, below the project's folder; the same as in dvc.yaml."""

from pathlib import Path
from typing import Final

RAW: Final = Path("data/raw")
PREPARED: Final = Path("data/prepared")
TRAINED: Final = Path("outputs/train")
EVALUATED: Final = Path("outputs/evaluate")
STUDIES: Final = Path("outputs/ablate")
SWEPT: Final = Path("outputs/sweep")
COMPARED: Final = Path("outputs/compare")
REPORT: Final = Path("outputs/report")
