"""Track runs in MLflow; `mlflow_client` alone imports mlflow."""
