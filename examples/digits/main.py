"""Reads handwritten digits: trains a classifier on images, and counts how often it reads unseen ones right.

The data are the 1,797 images of 8 by 8 pixels that come with scikit-learn.
"""

import time
from typing import Any, Literal

import msgspec
import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from nexus.sdk import Context, FatalError, algorithm


class Task(msgspec.Struct):
    """``parameters`` go to scikit-learn's estimator as they are. Fold ``fold`` of ``folds`` is what is read unseen."""

    model: Literal["forest", "svm", "neighbours", "logistic"] = "forest"
    parameters: dict[str, Any] = {}
    fold: int = 0
    folds: int = 5
    seed: int = 0


class Reading(msgspec.Struct):
    """``confusion[i][j]`` counts images of digit i that were read as j. ``misread`` shows a few: (digit, read as, pixels 0–16)."""

    model: str
    accuracy: float
    images: int
    confusion: list[list[int]]
    misread: list[tuple[int, int, list[int]]]
    train_s: float


@algorithm
def read_digits(task: Task, ctx: Context) -> Reading:
    if not 2 <= task.folds <= 50 or not 0 <= task.fold < task.folds:
        raise FatalError(f"fold {task.fold} of {task.folds} does not exist")
    data = load_digits()
    split = StratifiedKFold(task.folds, shuffle=True, random_state=task.seed)
    train, unseen = list(split.split(data.data, data.target))[task.fold]
    classifier = build(task)
    ctx.log.info("training %s on %d images", task.model, len(train))
    began = time.perf_counter()
    classifier.fit(data.data[train], data.target[train])
    train_s = time.perf_counter() - began
    read = classifier.predict(data.data[unseen])
    wrong = unseen[read != data.target[unseen]]
    ctx.log.info("read %d of %d unseen images right", len(unseen) - len(wrong), len(unseen))
    reads = dict(zip(unseen.tolist(), read.tolist(), strict=True))
    return Reading(
        model=task.model,
        accuracy=float(np.mean(read == data.target[unseen])),
        images=len(unseen),
        confusion=confusion_matrix(data.target[unseen], read, labels=range(10)).tolist(),
        misread=[(int(data.target[i]), reads[i], data.data[i].astype(int).tolist()) for i in wrong[:12].tolist()],
        train_s=round(train_s, 3),
    )


def build(task: Task) -> ClassifierMixin:
    """The classifier a task asks for."""
    try:
        match task.model:
            case "forest":
                return RandomForestClassifier(random_state=task.seed, n_jobs=1, **task.parameters)
            case "svm":
                return SVC(**task.parameters)
            case "neighbours":
                return KNeighborsClassifier(**task.parameters)
            case _:
                return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, random_state=task.seed, **task.parameters))
    except TypeError as error:
        raise FatalError(f"{task.model} does not take these parameters: {error}") from error


if __name__ == "__main__":
    read_digits.main()
