"""A configuration of DeepStream's tracker (NvDCF) that re-associates lost targets by the embeddings of a model.

Written after NVIDIA's documentation:

- DeepStream Developer Guide, "Gst-nvtracker", tables of the low-level tracker's properties: ``reidType`` is 0 for none,
  1 for NvDeepSORT's association, 2 for re-association only and 3 for both (also ``REID_TYPES`` in
  sources/libs/nvmultiobjecttracker/include/modules/ReID/IReID.hpp, DeepStream 9.2). A ``ReID`` section alone changes
  nothing in NvDCF: ``enableReAssoc`` and ``matchingScoreWeight4ReidSimilarity`` are 0 by default.
- config_tracker_NvDCF_accuracy.yml of the SDK: the sections, and the values of all of them but ReID.
- ``resolvePathRelativeToConfig`` in ReID.hpp, DeepStream 9.2: relative paths begin at the tracker's file. The table of
  DeepStream 7.0 asks for absolute paths of engines.
- cuReID.h, DeepStream 9.2: a similarity is the dot product of two features, and of a target's gallery the highest
  counts.
"""

from __future__ import annotations

import json
from pathlib import Path

from reid_edge.card import ModelCard

__all__ = ["deepstream_yaml"]

_NETWORK_MODES = {"fp32": 0, "fp16": 1, "int8": 2}

_TEMPLATE = """\
%YAML:1.0
# {title}, written by reid-edge export --for deepstream.
# A whole configuration for Gst-nvtracker's ll-config-file. Values outside of ReID are those of NVIDIA's
# config_tracker_NvDCF_accuracy.yml: tune them for your detector and cameras.

BaseConfig:
  minDetectorConfidence: 0.1894

TargetManagement:
  enableBboxUnClipping: 1
  preserveStreamUpdateOrder: 0
  maxTargetsPerStream: 150
  minIouDiff4NewTarget: 0.3686
  minTrackerConfidence: 0.1513
  probationAge: 2
  maxShadowTrackingAge: 42
  earlyTerminationAge: 1

TrajectoryManagement:
  useUniqueID: 0
  enableReAssoc: 1    # 0 by default: without it the ReID section has no effect
  minMatchingScore4Overall: 0.6622
  minTrackletMatchingScore: 0.2940
{threshold}
  matchingScoreWeight4TrackletSimilarity: 0.7981
  matchingScoreWeight4ReidSimilarity: 0.3848    # 0 by default
  minTrajectoryLength4Projection: 34
  prepLength4TrajectoryProjection: 58
  trajectoryProjectionLength: 33
  maxAngle4TrackletMatching: 67
  minSpeedSimilarity4TrackletMatching: 0.0574
  minBboxSizeSimilarity4TrackletMatching: 0.1013
  maxTrackletMatchingTimeSearchRange: 27
  trajectoryProjectionProcessNoiseScale: 0.0100
  trajectoryProjectionMeasurementNoiseScale: 100
  trackletSpacialSearchRegionScale: 0.0100
  reidExtractionInterval: 8    # frames between two embeddings of a target

DataAssociator:
  dataAssociatorType: 0
  associationMatcherType: 1    # cascaded
  checkClassMatch: 1
  minMatchingScore4Overall: 0.0222
  minMatchingScore4SizeSimilarity: 0.3552
  minMatchingScore4Iou: 0.0548
  minMatchingScore4VisualSimilarity: 0.5043
  matchingScoreWeight4VisualSimilarity: 0.3951
  matchingScoreWeight4SizeSimilarity: 0.6003
  matchingScoreWeight4Iou: 0.4033
  tentativeDetectorConfidence: 0.1024
  minMatchingScore4TentativeIou: 0.2852

StateEstimator:
  stateEstimatorType: 1    # simple Kalman filter
  processNoiseVar4Loc: 6810.8668
  processNoiseVar4Size: 1541.8647
  processNoiseVar4Vel: 1348.4874
  measurementNoiseVar4Detector: 100.0000
  measurementNoiseVar4Tracker: 293.3238

VisualTracker:
  visualTrackerType: 1    # NvDCF
  useColorNames: 1
  useHog: 1
  featureImgSizeLevel: 3
  featureFocusOffsetFactor_y: -0.1054
  filterLr: 0.0767
  filterChannelWeightsLr: 0.0339
  gaussianSigma: 0.5687

ReID:
  reidType: 2    # re-association only; 1 is NvDeepSORT's association, 3 both
  batchSize: {batch}
  workspaceSize: 1000    # MB
  reidFeatureSize: {features}
  reidHistorySize: 100
  inferDims: [3, {height}, {width}]
  networkMode: {mode}    # 0 FP32, 1 FP16, 2 INT8; the graph is strongly typed and keeps its own types
  inputOrder: 0    # NCHW
  colorFormat: 0    # RGB
  offsets: [0.0, 0.0, 0.0]    # mean and std are applied inside the graph
  netScaleFactor: 1.0
  keepAspc: 0    # crops are stretched, as in training
  # NVIDIA's own files set 1. The two scalers give other pixels than each other and than the {resize} resize that the
  # model was checked with: compare both on your video. With 0, tracker-width and tracker-height are multiples of 32.
  useVPICropScaler: 0
  addFeatureNormalization: 0    # the graph ends in an L2 norm
  outputReidTensor: 0
  # Relative to this file (DeepStream 9); earlier versions may want absolute paths.
  onnxFile: {onnx}
  modelEngineFile: {engine}    # DeepStream builds it when it is missing
"""

_KNOWN = """\
  # Exceeded by 1 of 1,000 pairs of two persons in the data set given. A target keeps up to reidHistorySize embeddings
  # and its closest one counts, so targets match falsely more often: raise it if they do.
  minMatchingScore4ReidSimilarity: {:.4f}"""

_UNKNOWN = """\
  # Depends on the model; 0 by default, which nearly any two persons pass. Labelled crops give it:
  #   reid-edge export MODEL --for deepstream --data DATASET
  # minMatchingScore4ReidSimilarity:"""


def deepstream_yaml(card: ModelCard, onnx: Path, batch: int, threshold: float | None = None) -> str:
    """A whole tracker configuration for an ONNX file at ``onnx``, relative to the folder of the configuration.

    ``threshold`` is the cosine similarity from which two embeddings may be one person
    (`reid_edge.export.handover.threshold`); None leaves it commented out, with the command that measures it.
    """
    height, width = card.input_hw
    return _TEMPLATE.format(
        title=f"{card.architecture} {card.precision}",
        threshold=_UNKNOWN if threshold is None else _KNOWN.format(threshold),
        batch=batch,
        features=card.embedding_dim,
        height=height,
        width=width,
        mode=_NETWORK_MODES[card.precision],
        resize=card.resize,
        onnx=json.dumps(str(onnx), ensure_ascii=False),
        engine=json.dumps(f"{onnx.stem}_deepstream.engine", ensure_ascii=False),
    )
