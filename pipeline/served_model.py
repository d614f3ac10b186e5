"""The name under which models that MLflow stores since before the rooms know their loader."""

from pipeline.predict.served_model import _load_pyfunc

__all__ = ["_load_pyfunc"]
