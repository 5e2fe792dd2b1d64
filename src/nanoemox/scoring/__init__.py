"""Scores of predictions: pure functions of numpy arrays and plain values, without torch.

Every score is a fraction in 0..1 (reports multiply by 100), better when higher except the calibration error. An
abstention, a prediction that is None, is always wrong and never leaves the denominator.
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
