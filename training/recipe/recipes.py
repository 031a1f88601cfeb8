"""The recipe of each architecture, and the seed paper's own, kept as history.

A recipe is a `TrainConfig`: dump it, edit it, pass it back (``--dump-config``, ``--config``).
"""

from __future__ import annotations

from dataclasses import replace

from reid_edge.core.names import require_name
from reid_edge.errors import InputError
from reid_edge.training.models.names import check_architecture

from .config import TrainConfig

__all__ = ["RECIPES", "recipe_for"]

RECIPES = ("default", "finetune", "distill", "qat", "seed")
"""The names that ``--recipe`` takes."""


def recipe_for(arch: str, epochs: int | None = None, recipe: str = "default") -> TrainConfig:
    """The recipe of an architecture, over its own number of epochs or ``epochs``.

    "seed" turns an architecture into its seed variant (osnet_x0_25 into osnet_x0_25_seed). Raises InputError for an
    unknown recipe, ModelError for an unknown architecture, and InputError for one that the paper did not train.

    >>> recipe_for("osnet_x0_25", epochs=10).optimizer
    'amsgrad'
    """
    require_name(recipe, RECIPES, "recipe")
    check_architecture(arch)
    if recipe == "seed" or arch.endswith("_seed"):
        config = seed_paper(arch)
    else:
        family = arch.split("_")[0]
        config = {"osnet": osnet, "mobilenetv3": mobilenetv3}.get(family, bag_of_tricks)(arch)
        changed = {"finetune": fine_tuning, "distill": distilling, "qat": quantisation_aware}.get(recipe)
        config = changed(config) if changed else config
    return config if epochs is None else config.for_epochs(epochs)


def bag_of_tricks(arch: str) -> TrainConfig:
    """ResNet50: Luo et al., *Bag of Tricks*, CVPRW 2019, section 2. Adam 3.5e-4, x0.1 after epochs 40 and 70 of 120."""
    return TrainConfig(arch=arch)


def osnet(arch: str) -> TrainConfig:
    """OSNet's AMSGrad and step size (Zhou et al., ICCV 2019, section 4.1), BoT's losses and batches, a cosine."""
    return TrainConfig(
        arch=arch, optimizer="amsgrad", learning_rate=1.5e-3, schedule="cosine", warmup_epochs=5, epochs=180
    )


def mobilenetv3(arch: str) -> TrainConfig:
    """A small network from random weights: a larger step than BoT's, and a cosine."""
    return TrainConfig(arch=arch, learning_rate=1e-3, schedule="cosine", warmup_epochs=5)


def fine_tuning(config: TrainConfig) -> TrainConfig:
    """The same architecture from weights trained on re-identification: 20 epochs, one of warm-up, a cosine.

    OSNet gets a BNNeck after its feature, which the published weights lack.
    """
    options = {**config.options, "neck": True} if config.arch.startswith("osnet") else config.options
    return replace(config, epochs=20, schedule="cosine", warmup_epochs=1, options=options)


def distilling(config: TrainConfig) -> TrainConfig:
    """A teacher's similarities alone, without any label: a batch is as many crops, each an identity of its own."""
    batch = config.identities_per_batch * config.crops_per_identity
    return replace(
        config, id_weight=0.0, triplet_weight=0.0, center_weight=0.0, identities_per_batch=batch, crops_per_identity=1
    )


def quantisation_aware(config: TrainConfig) -> TrainConfig:
    """A short fine-tuning with INT8 fake quantisation, towards the model's own FP32 embeddings, without any label.

    No augmentation, because the teacher saw none, and batch norm as it was: only the rounding is new. Biases start
    corrected (`training.qat_bias`), so that what is left to learn is small, and so are the step and the number of
    batches, which does not grow with the data: each crop brings a whole embedding to learn from. At 5e-5 the loss first
    doubles, because Adam's first steps move every weight by the learning rate whatever the gradient.

    The target is each crop's own embedding (cosine). The similarities within a batch, which are what a teacher of
    another width can teach, let all embeddings turn together, and those of the FP32 model with them.
    """
    return replace(
        distilling(config),
        epochs=1,
        max_batches=100,
        schedule="cosine",
        warmup_epochs=0,
        learning_rate=2e-5,
        optimizer="adam",
        weight_decay=0.0,
        flip=0.0,
        pad=0,
        erase=0.0,
        freeze_norm=True,
        precision="fp32",
        distill_weight=0.0,
        embedding_weight=1.0,
    )


def seed_paper(arch: str) -> TrainConfig:
    """*Person Re-identification using Siamese Networks*, as its code trained, with its defects.

    It reached 89.4/75.5, 77.3/56.3 and 77.0/56.3 (R1/mAP) on Market-1501, less than these models can, because of:

    - SGD with momentum 0.95 at a learning rate made for Adam;
    - the last stride of ResNet50 left at 2 (in the architecture ``resnet50_seed``);
    - triplet and center loss on the feature after the batch norm (``metric_after_neck``);
    - a trainable bias in that batch norm and a bias in the classifier, a 1000-d OSNet feature without BNNeck (in the
      ``_seed`` architectures);
    - centers that were never optimised (``center_learning_rate`` 0);
    - a sigmoid before the softmax loss of MobileNetV3 (``sigmoid_logits``);
    - a 751-way classifier whatever the data set (``classes``; more identities than that are refused);
    - flip-averaged test features, which evaluation here does not do.
    """
    family = arch.split("_")[0]
    names = {"resnet50": "resnet50_seed", "osnet": "osnet_x0_25_seed", "mobilenetv3": "mobilenetv3_large_seed"}
    if family not in names or (family == "osnet" and not arch.startswith("osnet_x0_25")):
        raise InputError(f"the seed recipe has no {arch}: give resnet50_bot, osnet_x0_25 or mobilenetv3_large")
    return TrainConfig(
        arch=names[family],
        classes=751,
        optimizer="sgd",
        momentum=0.95,
        metric_after_neck=True,
        center_learning_rate=0.0,
        sigmoid_logits=family == "mobilenetv3",
    )
