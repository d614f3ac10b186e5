"""Many trainings: ablation studies and hyper-parameter searches."""
