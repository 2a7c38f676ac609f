"""Trains a one-class SVM for each sensor on its last windows, with scikit-learn and joblib: the peer of `windrow retrain`.

retrain_peer.py PREDICTIONS WINDOWS FEATURES
"""

import os
import pickle
import sys

# One thread for each process: joblib uses the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import joblib
import numpy
import pyarrow.dataset
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM


def fit(rows):
    gamma = 3.0 if rows.shape[1] == 1 else 0.3 / rows.shape[1]
    model = make_pipeline(StandardScaler(), OneClassSVM(nu=0.005, gamma=gamma))
    return len(pickle.dumps(model.fit(rows)))


def main():
    predictions, windows, features = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(",")
    dataset = pyarrow.dataset.dataset(predictions, format="parquet", partitioning=None)
    table = dataset.to_table(columns=["device", "tag", "window_start", *features])
    table = table.sort_by([("device", "ascending"), ("tag", "ascending"), ("window_start", "ascending")])
    names = numpy.array([table["device"].to_pylist(), table["tag"].to_pylist()])
    starts = numpy.flatnonzero(numpy.any(names[:, 1:] != names[:, :-1], axis=0)) + 1
    rows = numpy.column_stack([table[name].to_numpy() for name in features])
    of_sensors = [rows[-windows:] for rows in numpy.split(rows, starts)]
    sizes = joblib.Parallel(n_jobs=os.cpu_count())(joblib.delayed(fit)(rows) for rows in of_sensors)
    print(f"{len(sizes)} models, {sum(sizes)} bytes")


main()
