"""Tracking of runs, metrics and artifacts in MLflow; `mlflow_client` alone imports mlflow."""
