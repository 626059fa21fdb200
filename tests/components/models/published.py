"""Names, shapes and counts of the published checkpoint, written down from its description alone."""

from __future__ import annotations

from typing import Any

Shapes = dict[str, tuple[int, ...]]
PUBLISHED: dict[str, Any] = {
    "dim": 1280,
    "layers": 24,
    "text_vocab": 12000,
    "max_text_tokens": 600,
    "semantic_codes": 8192,
    "max_semantic_tokens": 1815,
    "num_latents": 32,
    "speaker_features": 1024,
    "speaker_dim": 512,
    "speaker_layers": 6,
    "speaker_heads": 8,
    "speaker_feed_forward": 2048,
    "emotion_features": 1024,
    "emotion_dim": 512,
    "emotion_layers": 4,
    "emotion_heads": 4,
    "emotion_feed_forward": 1024,
    "emotion_perceiver_dim": 1024,
    "perceiver_head_dim": 64,
}


def linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def turned(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (inputs, outputs), f"{name}.bias": (outputs,)}


def norm(name: str, dim: int) -> Shapes:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def shapes(**changes: Any) -> Shapes:
    """Return the shape of every tensor, buffers included."""
    s = PUBLISHED | changes
    dim = s["dim"]
    found: Shapes = {
        "text_embedding.weight": (s["text_vocab"] + 1, dim),
        "mel_embedding.weight": (s["semantic_codes"] + 2, dim),
        "text_pos_embedding.emb.weight": (s["max_text_tokens"] + 2, dim),
        "mel_pos_embedding.emb.weight": (s["max_semantic_tokens"] + 3, dim),
        "speed_emb.weight": (2, dim),
        **norm("gpt.ln_f", dim),
        **norm("final_norm", dim),
        **linear("text_head", dim, s["text_vocab"] + 1),
        **linear("mel_head", dim, s["semantic_codes"] + 2),
        **linear("emo_layer", dim, dim),
        **linear("emovec_layer", s["emotion_perceiver_dim"], dim),
    }
    for index in range(s["layers"]):
        found |= _gpt_block(f"gpt.h.{index}", dim)
    found |= _conformer("conditioning_encoder", "speaker", s)
    found |= _conformer("emo_conditioning_encoder", "emotion", s)
    found |= _perceiver("perceiver_encoder", "speaker", dim, s["num_latents"], s)
    return found | _perceiver("emo_perceiver_encoder", "emotion", s["emotion_perceiver_dim"], 1, s)


def _gpt_block(name: str, dim: int) -> Shapes:
    return {
        **norm(f"{name}.ln_1", dim),
        **turned(f"{name}.attn.c_attn", dim, 3 * dim),
        **turned(f"{name}.attn.c_proj", dim, dim),
        **norm(f"{name}.ln_2", dim),
        **turned(f"{name}.mlp.c_fc", dim, 4 * dim),
        **turned(f"{name}.mlp.c_proj", 4 * dim, dim),
    }


def _conformer(name: str, side: str, s: dict[str, Any]) -> Shapes:
    dim, heads = s[f"{side}_dim"], s[f"{side}_heads"]
    found: Shapes = {
        f"{name}.embed.conv.0.weight": (dim, 1, 3, 3),
        f"{name}.embed.conv.0.bias": (dim,),
        f"{name}.embed.pos_enc.pe": (1, 5000, dim),
        **linear(f"{name}.embed.out.0", dim * ((s[f"{side}_features"] - 1) // 2), dim),
        **norm(f"{name}.after_norm", dim),
    }
    for index in range(s[f"{side}_layers"]):
        block = f"{name}.encoders.{index}"
        for part in ("linear_q", "linear_k", "linear_v", "linear_out"):
            found |= linear(f"{block}.self_attn.{part}", dim, dim)
        for part in ("norm_ff", "norm_mha", "norm_conv", "norm_final", "conv_module.norm"):
            found |= norm(f"{block}.{part}", dim)
        found |= linear(f"{block}.feed_forward.w_1", dim, s[f"{side}_feed_forward"])
        found |= linear(f"{block}.feed_forward.w_2", s[f"{side}_feed_forward"], dim)
        found |= {
            f"{block}.self_attn.linear_pos.weight": (dim, dim),
            f"{block}.self_attn.pos_bias_u": (heads, dim // heads),
            f"{block}.self_attn.pos_bias_v": (heads, dim // heads),
            f"{block}.conv_module.pointwise_conv1.weight": (2 * dim, dim, 1),
            f"{block}.conv_module.pointwise_conv1.bias": (2 * dim,),
            f"{block}.conv_module.depthwise_conv.weight": (dim, 1, 15),
            f"{block}.conv_module.depthwise_conv.bias": (dim,),
            f"{block}.conv_module.pointwise_conv2.weight": (dim, dim, 1),
            f"{block}.conv_module.pointwise_conv2.bias": (dim,),
        }
    return found


def _perceiver(name: str, side: str, dim: int, latents: int, s: dict[str, Any]) -> Shapes:
    inner = int(dim * 2 * 2 / 3)
    width = s[f"{side}_heads"] * s["perceiver_head_dim"]
    found: Shapes = {f"{name}.latents": (latents, dim), f"{name}.norm.gamma": (dim,)}
    if s[f"{side}_dim"] != dim:
        found |= linear(f"{name}.proj_context", s[f"{side}_dim"], dim)
    for index in range(2):
        layer = f"{name}.layers.{index}"
        found |= {
            f"{layer}.0.to_q.weight": (width, dim),
            f"{layer}.0.to_kv.weight": (2 * width, dim),
            f"{layer}.0.to_out.weight": (dim, width),
            **linear(f"{layer}.1.0", dim, 2 * inner),
            **linear(f"{layer}.1.2", inner, dim),
        }
    return found


def counts(text_vocab: int = 12000) -> dict[str, int]:
    """Return the parameters of each part at the published size, by formula."""
    d, w = 1280, 512  # widths of the GPT and of the Conformers
    block = 12 * d * d + 13 * d  # attention 4, feed-forward 8; biases 3 + 1 + 4 + 1, norms 4
    subsampling = (9 * w + w) + (w * 511 * w + w)
    attention = 5 * w * w + 4 * w + 2 * w
    convolution = (2 * w * w + 2 * w) + (15 * w + w) + (w * w + w) + 2 * w
    conformer = {
        inner: attention + convolution + 2 * w * inner + inner + w + 4 * 2 * w
        for inner in (2048, 1024)
    }

    def perceiver(dim: int, latents: int, heads: int, inner: int) -> int:
        layer = 4 * dim * heads * 64 + (dim * 2 * inner + 2 * inner) + (inner * dim + dim)
        return latents * dim + (w * dim + dim) + 2 * layer + dim

    return {
        "gpt": 24 * block + 2 * d,
        "conditioning_encoder": subsampling + 6 * conformer[2048] + 2 * w,
        "perceiver_encoder": perceiver(d, 32, 8, 1706),
        "emo_conditioning_encoder": subsampling + 4 * conformer[1024] + 2 * w,
        "emo_perceiver_encoder": perceiver(1024, 1, 4, 1365),
        "emo_layer": d * d + d,
        "emovec_layer": 1024 * d + d,
        "text_embedding": (text_vocab + 1) * d,
        "mel_embedding": 8194 * d,
        "text_pos_embedding": 602 * d,
        "mel_pos_embedding": 1818 * d,
        "speed_emb": 2 * d,
        "final_norm": 2 * d,
        "text_head": (text_vocab + 1) * d + text_vocab + 1,
        "mel_head": 8194 * d + 8194,
    }
