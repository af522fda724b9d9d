"""Mini-batches: sampled receptive fields, training on them, and inference layer by layer."""

from layerlab.graph.sampling.batching import Batching
from layerlab.graph.sampling.inference import infer
from layerlab.graph.sampling.inputs import Inputs
from layerlab.graph.sampling.neighbours import Sampler, sample_field
from layerlab.graph.sampling.task import BatchTask

__all__ = ["BatchTask", "Batching", "Inputs", "Sampler", "infer", "sample_field"]
