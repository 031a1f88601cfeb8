"""Export a trained model to FP32 and FP16, then measure speed and accuracy side by side.

    python examples/4_export_and_bench.py run/model.pth FOLDER models

run/model.pth is what example 3 writes, FOLDER its data set. Needs the train and export extras. An FP32 ONNX file in its
place needs the export extra alone, and FP16 is made of it. What is written to models/ needs neither.
"""

import sys

import reid_edge

if len(sys.argv) != 4:
    sys.exit(__doc__)
model, folder, out = sys.argv[1:]

with reid_edge.TestSet.open(folder) as test_set:  # opened and decoded once, for every model below
    exported = reid_edge.export_model(model, out, precisions=("fp32", "fp16"), data=test_set)
    exported.raise_if_refused()  # a file that differs from the model is never written
    files = [file.path for file in exported.files]
    report = reid_edge.bench(files, test_set, options=reid_edge.BenchOptions(batches=(1, 8), min_seconds=0.2))

print("precision  batch  p50 ms  crops/s    mAP")
for row in report.rows:
    measured = row.measured
    print(
        f"{row.precision:9}  {row.batch:5}  {measured.end_to_end_ms.p50:6.2f}  "
        f"{measured.crops_per_s:7.0f}  {100 * row.mAP:5.1f}"
    )
