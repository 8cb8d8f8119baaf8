"""The code of a classifier in MLflow. MLflow copies this file into the model and runs it from there."""

from __future__ import annotations

from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from raydistill.pipeline.pictures.classifier import PictureClassifier
from raydistill.storage import Folder


class Classifier(PythonModel):
    """Predict classes of pictures; `PictureClassifier.predict` describes input and output."""

    def load_context(self, context: Any) -> None:
        """Load the networks."""
        self._classifier = PictureClassifier.load(Folder(context.artifacts["classifier"]))

    # Without type hints, of which MLflow would make a schema that a choice of inputs does not fit.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Return a table with a row per picture."""
        return self._classifier.predict(model_input)


set_model(Classifier())
