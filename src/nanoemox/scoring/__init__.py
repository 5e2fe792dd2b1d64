"""Metrics of predictions: pure functions of numpy arrays and plain values, without torch.

Every score is in 0..1 (reports multiply by 100); higher is better, except for the calibration error. An abstention
(the prediction is None) counts as wrong and stays in the denominator.
"""

from nanoemox.scoring.metrics.bootstrap import (
    Difference,
    Interval,
    Statistic,
    bootstrap_difference,
    bootstrap_interval,
    mean_statistic,
)
from nanoemox.scoring.metrics.calibration import ReliabilityBin, expected_calibration_error, reliability_table
from nanoemox.scoring.metrics.classification import (
    ClassificationScores,
    accuracy,
    classification_scores,
    confusion_matrix,
    confusion_statistic,
    macro_f1,
    unweighted_average_recall,
    weighted_f1,
    weighted_precision,
)
from nanoemox.scoring.metrics.diversity import corpus_distinct_n, distinct_n, distinct_n_values

__all__ = [
    "ClassificationScores",
    "Difference",
    "Interval",
    "ReliabilityBin",
    "Statistic",
    "accuracy",
    "bootstrap_difference",
    "bootstrap_interval",
    "classification_scores",
    "confusion_matrix",
    "confusion_statistic",
    "corpus_distinct_n",
    "distinct_n",
    "distinct_n_values",
    "expected_calibration_error",
    "macro_f1",
    "mean_statistic",
    "reliability_table",
    "unweighted_average_recall",
    "weighted_f1",
    "weighted_precision",
]
