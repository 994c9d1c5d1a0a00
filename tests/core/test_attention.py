"""Attention backends: SDPA is the oracle, the choice has a reason, and nothing falls back silently."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from core.attention import (
    AttentionChoice,
    apply_to_diffusers,
    apply_to_transformers,
    attention,
    register_with_transformers,
    resolve_attention,
)
from core.errors import InputError, UnavailableError

HAS_XFORMERS = importlib.util.find_spec("xformers") is not None
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}


def needs_gpu(test):
    """Mark a test that runs on CUDA, and skip it where there is none."""
    return pytest.mark.gpu(pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")(test))


def choice_of(backend: str) -> AttentionChoice:
    return AttentionChoice(backend, "a test", backend)  # ty: ignore[invalid-argument-type]


def make_inputs(dtype, head_dim, queries=33, keys=57, device="cpu"):
    """Query, key and value [2, 3, S, D] with ragged lengths."""
    generator = torch.Generator().manual_seed(head_dim)
    shapes = [(2, 3, length, head_dim) for length in (queries, keys, keys)]
    return [torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes]


def make_mask(kind, dtype, queries=33, keys=57, device="cpu"):
    generator = torch.Generator().manual_seed(7)
    keep = torch.rand(2, 1, queries, keys, generator=generator) > 0.4
    masks = {
        "none": None,
        "padding": keep[:, :, :1],
        "per query": keep,
        "two dimensions": keep[0, 0],
        "additive per head": torch.randn(2, 3, queries, keys, generator=generator).to(dtype),
    }
    mask = masks[kind]
    return None if mask is None else mask.to(device)


def oracle(query, key, value, mask, scale=None):
    """SDPA in float64."""
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.double()
    return scaled_dot_product_attention(query.double(), key.double(), value.double(), attn_mask=mask, scale=scale)


def assert_equals_oracle(choice, dtype, head_dim, kind, device="cpu"):
    query, key, value = make_inputs(dtype, head_dim, device=device)
    mask = make_mask(kind, dtype, device=device)

    output = attention(query, key, value, choice=choice, mask=mask)

    assert output.dtype == dtype
    assert output.shape == query.shape
    torch.testing.assert_close(
        output.double(), oracle(query, key, value, mask), atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype]
    )


@pytest.mark.parametrize("kind", ["none", "padding", "per query", "two dimensions", "additive per head"])
@pytest.mark.parametrize("head_dim", [8, 40, 64, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("backend", ["sdpa", "flash"])
def test_every_cpu_backend_equals_sdpa_in_float64(backend, dtype, head_dim, kind):
    assert_equals_oracle(resolve_attention(backend, device="cpu", dtype=dtype), dtype, head_dim, kind)


@needs_gpu
@pytest.mark.parametrize("kind", ["none", "padding", "per query", "two dimensions", "additive per head"])
@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("backend", ["sdpa", "xformers"])
def test_every_gpu_backend_that_takes_masks_equals_sdpa_in_float64(backend, dtype, head_dim, kind):
    if backend == "xformers" and not HAS_XFORMERS:
        pytest.skip("xformers is not installed")
    choice = resolve_attention(backend, device="cuda", dtype=dtype, head_dim=head_dim)
    assert_equals_oracle(choice, dtype, head_dim, kind, device="cuda")


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_flash_on_a_gpu_equals_sdpa_and_refuses_a_mask_with_the_way_out(dtype):
    choice = resolve_attention("flash", device="cuda", dtype=dtype)
    assert_equals_oracle(choice, dtype, 64, "none", device="cuda")
    with pytest.raises(UnavailableError, match=r"no mask.*attention='sdpa'"):
        assert_equals_oracle(choice, dtype, 64, "per query", device="cuda")


@needs_gpu
def test_flash_on_a_gpu_refuses_float32_at_load():
    with pytest.raises(UnavailableError, match=r"flash.*float32"):
        resolve_attention("flash", device="cuda", dtype=torch.float32)


@needs_gpu
def test_auto_on_a_gpu_takes_the_faster_and_records_the_ratio():
    choice = resolve_attention("auto", device="cuda", dtype=torch.bfloat16)
    if HAS_XFORMERS:
        assert "times as fast as SDPA" in choice.reason or "xformers cannot run here" in choice.reason
    else:
        assert choice == AttentionChoice("sdpa", "xformers is not installed", "auto")
    assert resolve_attention("auto", device="cuda", dtype=torch.bfloat16) == choice


@pytest.mark.parametrize("backend", ["sdpa", "flash"])
def test_the_scale_is_the_factor_on_the_logits(backend):
    query, key, value = make_inputs(torch.float32, 16)

    output = attention(query, key, value, choice=choice_of(backend), scale=0.5)

    expected = (0.5 * query @ key.mT).softmax(dim=-1) @ value
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", ["sdpa", "flash"])
def test_a_row_masked_out_whole_gives_zeros(backend):
    query, key, value = make_inputs(torch.float32, 16)
    mask = torch.ones(33, 57, dtype=torch.bool)
    mask[4] = False

    output = attention(query, key, value, choice=choice_of(backend), mask=mask)

    assert torch.equal(output[:, :, 4], torch.zeros_like(output[:, :, 4]))
    assert torch.isfinite(output).all()


@pytest.mark.filterwarnings("ignore:Flash attention")
def test_a_call_that_flash_cannot_take_is_an_error_and_not_a_fallback():
    query, key, _ = make_inputs(torch.float32, 16)
    wider = torch.randn(2, 3, 57, 32)
    with pytest.raises(UnavailableError, match=r"cannot take this call.*attention='sdpa'"):
        attention(query, key, wider, choice=choice_of("flash"))
    attention(query, key, wider, choice=choice_of("sdpa"))


def test_auto_on_a_cpu_is_sdpa_with_the_reason():
    choice = resolve_attention("auto", device="cpu", dtype="auto")
    assert choice.backend == "sdpa"
    assert choice.requested == "auto"
    assert choice.reason == ("xformers has no CPU kernel" if HAS_XFORMERS else "xformers is not installed")
    assert choice.as_dict() == {"backend": "sdpa", "reason": choice.reason, "requested": "auto"}


def test_xformers_on_a_cpu_is_refused_with_the_reason_and_the_way_out():
    reason = "no CPU kernel" if HAS_XFORMERS else "not installed"
    with pytest.raises(UnavailableError, match=f"xformers.*cpu.*{reason}.*attention='sdpa'"):
        resolve_attention("xformers", device="cpu", dtype="fp32")


def test_auto_on_a_cpu_does_not_import_xformers():
    code = (
        "import sys; from core.attention import resolve_attention\n"
        "resolve_attention('auto', device='cpu', dtype='fp32'); print('xformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"requested": "fastest"}, "'auto', 'xformers', 'flash', 'sdpa'"),
        ({"head_dim": 0}, "1 or more"),
        ({"dtype": "int8"}, "dtype"),
        ({"device": "gpu"}, "device"),
    ],
)
def test_a_wrong_argument_says_what_is_allowed(arguments, message):
    with pytest.raises(InputError, match=message):
        resolve_attention(**({"device": "cpu", "dtype": "fp32"} | arguments))


def test_resolving_leaves_the_seeded_stream_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    resolve_attention("flash", device="cpu", dtype="bf16", head_dim=72)
    assert torch.equal(torch.rand(3), expected)


@pytest.fixture(scope="module")
def wan():
    """A Wan video transformer at its smallest, with its inputs."""
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

    torch.manual_seed(0)
    model = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=16,
        ffn_dim=32,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    ).eval()
    inputs = {
        "hidden_states": torch.randn(1, 4, 3, 8, 8),
        "timestep": torch.tensor([500]),
        "encoder_hidden_states": torch.randn(1, 5, 16),
    }
    return model, inputs


def processors_of(model):
    return [part.processor for part in model.modules() if hasattr(part, "processor")]


@pytest.mark.parametrize(
    ("backend", "dtype", "name"),
    [
        ("sdpa", torch.float32, "native"),
        ("flash", torch.bfloat16, "_native_flash"),
    ],
)
def test_a_diffusers_model_takes_the_choice_and_gives_the_same_output(wan, backend, dtype, name):
    model, inputs = wan
    model.to(dtype)
    inputs = {key: value.to(dtype) if value.is_floating_point() else value for key, value in inputs.items()}
    with torch.no_grad():
        model.reset_attention_backend()
        before = model(**inputs).sample

        taken = apply_to_diffusers(model, choice_of(backend))

        after = model(**inputs).sample
    model.to(torch.float32)
    assert taken == ("WanTransformer3DModel",)
    assert [processor._attention_backend for processor in processors_of(model)] == [name] * 4
    torch.testing.assert_close(after, before, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


def test_applying_to_one_diffusers_model_leaves_the_default_of_others_alone(wan):
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    before = _AttentionBackendRegistry.get_active_backend()
    apply_to_diffusers(wan[0], choice_of("flash"))
    assert _AttentionBackendRegistry.get_active_backend() == before


def test_every_model_of_a_diffusers_pipeline_takes_the_choice(wan):
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

    class TinyPipeline(DiffusionPipeline):
        def __init__(self, transformer, scheduler):
            super().__init__()
            self.register_modules(transformer=transformer, scheduler=scheduler)

    pipeline = TinyPipeline(wan[0], FlowMatchEulerDiscreteScheduler())
    assert apply_to_diffusers(pipeline, choice_of("sdpa")) == ("WanTransformer3DModel",)


@pytest.mark.skipif(HAS_XFORMERS, reason="xformers is installed")
def test_a_backend_that_diffusers_cannot_run_is_refused(wan):
    with pytest.raises(UnavailableError, match=r"(?i)xformers.*attention='sdpa'"):
        apply_to_diffusers(wan[0], choice_of("xformers"))


def test_a_backend_that_no_layer_would_take_is_refused():
    from diffusers import AutoencoderTiny

    model = AutoencoderTiny(
        encoder_block_out_channels=(4, 4),
        decoder_block_out_channels=(4, 4),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )
    assert apply_to_diffusers(model, choice_of("sdpa")) == ()
    with pytest.raises(UnavailableError, match="would have no effect"):
        apply_to_diffusers(model, choice_of("flash"))


@pytest.fixture(scope="module")
def qwen():
    """A causal language model with grouped key/value heads at its smallest."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return Qwen2ForCausalLM(config).eval()


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("backend", "name"), [("sdpa", "sdpa"), ("flash", "sdpa_fa")])
def test_a_transformers_model_takes_the_choice_and_equals_eager(qwen, backend, name, padded):
    tokens = torch.arange(18).reshape(2, 9)
    keep = torch.ones_like(tokens)
    if padded:
        keep[0, :4] = 0
    with torch.no_grad():
        qwen.set_attn_implementation("eager")
        eager = qwen(tokens, attention_mask=keep).logits

        apply_to_transformers(qwen, choice_of(backend))

        logits = qwen(tokens, attention_mask=keep).logits
    assert qwen.config._attn_implementation == name
    torch.testing.assert_close(logits[:, 4:], eager[:, 4:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", ["sdpa", "flash"])
def test_generation_with_the_choice_gives_the_tokens_of_eager(qwen, backend):
    tokens = torch.arange(18).reshape(2, 9)
    qwen.set_attn_implementation("eager")
    eager = qwen.generate(tokens, do_sample=False, max_new_tokens=6)
    apply_to_transformers(qwen, choice_of(backend))
    assert torch.equal(qwen.generate(tokens, do_sample=False, max_new_tokens=6), eager)


@needs_gpu
@pytest.mark.skipif(not HAS_XFORMERS, reason="xformers is not installed")
@pytest.mark.parametrize("padded", [False, True])
def test_the_xformers_entry_of_transformers_equals_eager_on_a_gpu(qwen, padded):
    model = qwen.to("cuda", torch.float16)
    tokens = torch.arange(18, device="cuda").reshape(2, 9)
    keep = torch.ones_like(tokens)
    if padded:
        keep[0, :4] = 0
    try:
        with torch.no_grad():
            model.set_attn_implementation("eager")
            eager = model(tokens, attention_mask=keep).logits
            apply_to_transformers(model, choice_of("xformers"))
            logits = model(tokens, attention_mask=keep).logits
    finally:
        qwen.to("cpu", torch.float32)
    torch.testing.assert_close(logits[:, 4:], eager[:, 4:], atol=1e-2, rtol=1e-2)


def test_registering_with_transformers_twice_is_harmless():
    from transformers import AttentionInterface, AttentionMaskInterface

    register_with_transformers()
    register_with_transformers()
    assert {"xformers", "sdpa_fa"} <= set(AttentionInterface().valid_keys())
    assert {"xformers", "sdpa_fa"} <= set(AttentionMaskInterface().valid_keys())


def test_a_transformers_model_that_fixes_its_attention_is_refused():
    from transformers import DebertaV2Config, DebertaV2Model

    config = DebertaV2Config(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    with pytest.raises(UnavailableError, match="DebertaV2Model does not"):
        apply_to_transformers(DebertaV2Model(config), choice_of("flash"))
