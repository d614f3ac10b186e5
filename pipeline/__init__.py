"""The stages of an experiment, each with `run(params)`; they know DVC's layout, MLflow and Ray.

Each folder is one stage's package; the modules beside them are shared.
"""

from typing import Final

# The module of each stage: what its verb runs, and where its dependencies are traced from.
STAGES: Final = {
    "acquire": "pipeline.acquire.stage",
    "prepare": "pipeline.prepare.stage",
    "train": "pipeline.train.stage",
    "evaluate": "pipeline.evaluate.stage",
    "ablate": "pipeline.studies.ablate",
    "sweep": "pipeline.studies.sweep",
    "compare": "pipeline.compare.stage",
    "report": "pipeline.report.stage",
}
