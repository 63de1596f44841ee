"""What operators and apps do with models and predictions, each in one call."""

from tasks.predictions.operations.models import activate, roll_back, shelf_of, verify
from tasks.predictions.operations.predicting import PredictedFile, predict_file
from tasks.predictions.operations.training import Trained, train

__all__ = ["PredictedFile", "Trained", "activate", "predict_file", "roll_back", "shelf_of", "train", "verify"]
