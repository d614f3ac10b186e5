"""MLflow: where runs are kept, what each contains, and moving them between stores."""

from pipeline.tracking.address import Address, check_answers, compare_url, default_uri
from pipeline.tracking.provenance import common_tags, figures_by_name, git_commit
from pipeline.tracking.run import NoRun, Run
from pipeline.tracking.store import (
    Store,
    connect,
    download_evaluation,
    log_evaluation,
    open_run,
)

__all__ = [
    "Address",
    "NoRun",
    "Run",
    "Store",
    "check_answers",
    "common_tags",
    "compare_url",
    "connect",
    "default_uri",
    "download_evaluation",
    "figures_by_name",
    "git_commit",
    "log_evaluation",
    "open_run",
]
