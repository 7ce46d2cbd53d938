"""Whole jobs: train a network and write its report, evaluate a run, classify photos with it, show
what it sees."""

from jconv.runs.config import TrainConfig as TrainConfig
from jconv.runs.field_study import measured_fields as measured_fields
from jconv.runs.fields import fields_of_model as fields_of_model
from jconv.runs.fields import fields_of_run as fields_of_run
from jconv.runs.fields import write_fields as write_fields
from jconv.runs.inference import Evaluation as Evaluation
from jconv.runs.inference import Prediction as Prediction
from jconv.runs.inference import classify as classify
from jconv.runs.inference import evaluate as evaluate
from jconv.runs.inference import predict as predict
from jconv.runs.run import Run as Run
from jconv.runs.training import RunResult as RunResult
from jconv.runs.training import resume_run as resume_run
from jconv.runs.training import train as train
