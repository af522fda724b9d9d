"""Models of Hugging Face's transformers, tiny and with random weights, where that package is installed."""

from __future__ import annotations

from typing import Any

import pytest

from layerlab.gradflow.inspection.inspection import ModelInspection, Settings, inspect
from layerlab.lab.models.subject import Subject, load_subject

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
TOKENS: dict[str, Any] = {"vocab_size": 50, "bos_token_id": 0, "eos_token_id": 0}

# Named by the tests below as MODULE:NAME, as on the command line.
FACTORIES = {
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**TOKENS, n_positions=32, n_embd=16, n_layer=2, n_head=2)
    ),
    "bert": lambda: transformers.BertModel(
        transformers.BertConfig(**SMALL, vocab_size=50, max_position_embeddings=32)
    ),
    "vit": lambda: transformers.ViTForImageClassification(
        transformers.ViTConfig(**SMALL, image_size=16, patch_size=8)
    ),
    "t5": lambda: transformers.T5Model(
        transformers.T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    ),
}


@pytest.mark.parametrize(
    ("name", "shapes", "output", "last"),
    [
        ("gpt2", (), None, "lm_head"),
        ("bert", (), "last_hidden_state", "encoder.layer.1.output.LayerNorm"),
        ("vit", ("2,3,16,16",), None, "classifier"),
        (
            "t5",
            ("input_ids=2,6:int50", "decoder_input_ids=2,5:int50"),
            "last_hidden_state",
            "decoder.final_layer_norm",
        ),
    ],
)
def test_profiles(name: str, shapes: tuple[str, ...], output: str | None, last: str) -> None:
    settings = Settings(shapes=shapes, mode="eval", budget=16)
    found = _inspected(name, settings)
    assert found.profile.layers[-1].name == last and found.profile.separate
    for layer in found.profile.layers:
        assert (layer.jacobian.largest <= layer.bound.value * (1 + 1e-4)).all(), layer.name
    said = [note for note in found.notes if note.startswith("of several outputs")]
    assert [output is not None] == [bool(said)] and (output or "") in " ".join(said)


def _inspected(name: str, settings: Settings) -> ModelInspection:
    import sys
    import types

    module = types.ModuleType("hugging_face_factories")
    vars(module).update(FACTORIES)
    sys.modules[module.__name__] = module
    try:
        subject: Subject = load_subject(f"{module.__name__}:{name}", settings.request())
        return inspect(subject, settings)
    finally:
        del sys.modules[module.__name__]
