"""Where models, jobs and predictions are kept."""

from tasks.predictions.store.models import LoadedModel, ModelShelf

__all__ = ["LoadedModel", "ModelShelf"]
