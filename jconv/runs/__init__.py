"""Whole jobs: train a network and write its report, evaluate a run, classify photos with it."""

from jconv.runs.config import TrainConfig as TrainConfig
from jconv.runs.inference import Evaluation as Evaluation
from jconv.runs.inference import Prediction as Prediction
from jconv.runs.inference import classify as classify
from jconv.runs.inference import evaluate as evaluate
from jconv.runs.inference import predict as predict
from jconv.runs.run import Run as Run
from jconv.runs.training import RunResult as RunResult
from jconv.runs.training import resume_run as resume_run
from jconv.runs.training import train as train
