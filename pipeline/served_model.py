"""The loader's old name, which models stored in MLflow by earlier versions refer to."""

from pipeline.predict.served_model import _load_pyfunc

__all__ = ["_load_pyfunc"]
