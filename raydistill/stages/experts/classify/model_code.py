"""The code of a classifier in MLflow, which copies this file into the model.

MLflow runs it from there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from raydistill.learning.architectures import Custom
from raydistill.stages.experts.classify.classifier import PictureClassifier
from raydistill.storage import Folder


class Classifier(PythonModel):
    """Predict classes; `PictureClassifier.predict` describes input and output."""

    def load_context(self, context: Any) -> None:
        """Load the networks; a custom one needs `model_config={"custom": "module:name"}`."""
        factory = (context.model_config or {}).get("custom")
        networks = [Custom(factory=factory)] if factory else []
        self._classifier = PictureClassifier.load(Folder(context.artifacts["classifier"]), networks)

    # A table is also accepted. MLflow makes no schema of this type, and warns of a union and of none.
    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> Any:
        """Return a table with a row per picture."""
        return self._classifier.predict(model_input)


set_model(Classifier())
