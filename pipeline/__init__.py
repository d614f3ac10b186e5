"""The stages of an experiment, each with `run(params)`; they know DVC's layout, MLflow and Ray."""
