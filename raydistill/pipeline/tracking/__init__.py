"""MLflow: runs, metrics and artifacts. No other package imports mlflow."""
