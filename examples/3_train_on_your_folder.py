"""Train a model on your own crops.

    python examples/3_train_on_your_folder.py FOLDER OUT [EPOCHS]

FOLDER has a folder of crops for each person (train/anna/1.jpg, test/ben/1.jpg), or is a public data set: what is found
there says `reid-edge data inspect FOLDER`. `reid-edge data synthesize people` draws a folder to try. Needs the train
extra. Run it again after a stop, and it goes on.
"""

import sys

import reid_edge

if len(sys.argv) not in (3, 4):
    sys.exit(__doc__)
folder, out, epochs = (*sys.argv[1:], "60")[:3]

dataset = reid_edge.open_dataset(folder)
print(f"{dataset.name}: {len(dataset.split.train)} crops of {len({crop.pid for crop in dataset.split.train})} persons")

# Half the usual height and width and small batches, for a first try: leave these settings out for the whole recipe.
small = {"input_hw": (128, 64), "identities_per_batch": 4}
report = reid_edge.train_model(
    dataset,
    out,
    arch="osnet_x0_25",
    epochs=int(epochs),
    settings=small,
    run=reid_edge.RunOptions(resume=True),
)

print(f"{report.model}: loss {report.history[-1].losses}")
if report.metrics:  # of query and gallery crops, where the data set has them
    print(f"mAP {100 * report.metrics['mAP']:.1f} on persons that it was not trained on")
