#!/usr/bin/env python3
"""Parity fixtures from the reference implementation (diffusers / transformers / gguf / sentencepiece), CPU only.

Each case writes OUT/<case>/config.json, weights.safetensors (all parameters, every one randomised, reference key
names) and io.safetensors (in.* / out.* tensors, f32).  Everything follows from --seed and --config, so that other
variants can be made later:

  python make_fixtures.py --out fx --seed 0
  python make_fixtures.py --out ../fixtures --small --only wan_t2v,wan_vae21   (what is committed: see README.md)
  python make_fixtures.py --out other --seed 7 --only wan_t2v,wan_vae21 --config overrides.json
     overrides.json: {"wan_t2v": {"model": {"num_layers": 3}, "frames": 5, "height": 8, "width": 12}}

Written against torch 2.15, diffusers 0.42.1, transformers 5.23, gguf 0.19, sentencepiece 0.2.3.
"""
import argparse, copy, json, os, random, re, shutil, tempfile, time, warnings
warnings.filterwarnings("ignore")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import numpy as np
import torch
from safetensors.torch import save_file
import diffusers as D
import transformers as TF
D.utils.logging.set_verbosity_error(); TF.logging.set_verbosity_error()
torch.set_grad_enabled(False)

CASES, DEFAULTS = {}, {}
SMALL = False  # --small: leave out weights that repeat what another case shows


def case(**defaults):
    def deco(f):
        CASES[f.__name__] = f
        DEFAULTS[f.__name__] = defaults
        return f
    return deco


def merge(a, b):
    a = copy.deepcopy(a)
    for k, v in (b or {}).items():
        a[k] = merge(a[k], v) if isinstance(v, dict) and isinstance(a.get(k), dict) else v
    return a


class Ctx:
    """Seeded source of tensors for one case (adding a case does not shift another one's numbers)."""

    def __init__(self, name, seed, out):
        self.name, self.dir = name, os.path.join(out, name)
        self.g = torch.Generator().manual_seed((seed * 1000003 + sum(map(ord, name)) * 7919) % (2**31))
        self.io, self.models = {}, {}

    def randn(self, *s, scale=1.0):
        return torch.randn(*s, generator=self.g) * scale

    def rand(self, *s):
        return torch.rand(*s, generator=self.g)

    def randint(self, hi, *s):
        return torch.randint(0, hi, s, generator=self.g)

    def init(self, m, gain=1.0):
        """Random values everywhere (norm gains, biases, tables too): a port that drops one must fail."""
        for n, p in m.named_parameters():
            leaf = n.rsplit(".", 1)[-1]
            r = torch.randn(p.shape, generator=self.g)
            if p.ndim == 0:
                p.mul_(1 + 0.1 * r)  # LTX timestep_scale_multiplier
            elif leaf == "gamma" or (p.ndim == 1 and leaf == "weight"):
                p.copy_(1 + 0.2 * r)
            elif leaf in ("bias", "scale_shift_table", "per_channel_scale1", "per_channel_scale2", "pos_embed"):
                p.copy_(0.2 * r)
            elif "embed" in n and p.ndim == 2 and ("shared" in n or "embed_tokens" in n or "embedding_table" in n):
                p.copy_(r)
            else:
                p.copy_(gain * r / max(1.0, p[0].numel()) ** 0.5)
        return m.eval()

    def add(self, **kw):
        for k, v in kw.items():
            self.io[k.replace("__", ".")] = v

    def save(self, cfg, models=None):
        os.makedirs(self.dir, exist_ok=True)
        for k, m in (models or {}).items():
            sd = {n: t.contiguous().clone() for n, t in m.state_dict().items()}
            save_file(sd, f"{self.dir}/{k}.safetensors")
            if hasattr(m, "config"):
                c = m.config.to_dict() if hasattr(m.config, "to_dict") else dict(m.config)
                c = {a: b for a, b in c.items() if not a.startswith("_") or a == "_class_name"}
                c.setdefault("_class_name", type(m).__name__)
                cfg = {**cfg, k: json.loads(json.dumps(c, default=list))}
            if SMALL and self.name not in ("wan_t2v", "wan_vace", "wan_vae21", "wan_vae22"):
                continue  # one copy of each kind of original names is enough to commit
            if isinstance(m, (D.WanTransformer3DModel, D.WanVACETransformer3DModel)):
                save_file(dit_to_original(sd), f"{self.dir}/{k}_original.safetensors")
            elif isinstance(m, D.AutoencoderKLWan) and k == "weights":
                save_file(vae_to_original(sd, m.config), f"{self.dir}/{k}_original.safetensors")
        io = {k: (v if v.dtype.is_floating_point is False else v.float()).contiguous().clone() for k, v in self.io.items()}
        save_file(io, f"{self.dir}/io.safetensors")
        json.dump(cfg, open(f"{self.dir}/config.json", "w"), indent=1, default=list)


# ------------------------------------------------------------------------------- names of the original Wan files
DIT_TO_ORIGINAL = [
    (r"^condition_embedder\.time_embedder\.linear_1", "time_embedding.0"), (r"^condition_embedder\.time_embedder\.linear_2", "time_embedding.2"),
    (r"^condition_embedder\.text_embedder\.linear_1", "text_embedding.0"), (r"^condition_embedder\.text_embedder\.linear_2", "text_embedding.2"),
    (r"^condition_embedder\.time_proj", "time_projection.1"), (r"^condition_embedder\.image_embedder\.pos_embed", "img_emb.emb_pos"),
    (r"^condition_embedder\.image_embedder\.norm1", "img_emb.proj.0"), (r"^condition_embedder\.image_embedder\.ff\.net\.0\.proj", "img_emb.proj.1"),
    (r"^condition_embedder\.image_embedder\.ff\.net\.2", "img_emb.proj.3"), (r"^condition_embedder\.image_embedder\.norm2", "img_emb.proj.4"),
    (r"^scale_shift_table", "head.modulation"), (r"^proj_out", "head.head"), (r"(blocks\.\d+)\.scale_shift_table", r"\1.modulation"),
    (r"(vace_blocks\.\d+)\.proj_in", r"\1.before_proj"), (r"(vace_blocks\.\d+)\.proj_out", r"\1.after_proj"),
    (r"ffn\.net\.0\.proj", "ffn.0"), (r"ffn\.net\.2", "ffn.2"), (r"(blocks\.\d+)\.norm2", r"\1.norm3"),
    (r"attn2\.add_k_proj", "attn2.k_img"), (r"attn2\.add_v_proj", "attn2.v_img"), (r"attn2\.norm_added_k", "attn2.norm_k_img"),
    (r"(attn\d)\.to_out\.0", r"\1.o"), (r"(attn\d)\.to_([qkv])", r"\1.\2"), (r"attn1\.", "self_attn."), (r"attn2\.", "cross_attn."),
]
RES = {"norm1": "residual.0", "conv1": "residual.2", "norm2": "residual.3", "conv2": "residual.6", "conv_shortcut": "shortcut"}


def dit_to_original(sd):
    out = {}
    for k, v in sd.items():
        for a, b in DIT_TO_ORIGINAL:
            k = re.sub(a, b, k)
        out[k] = v
    return out


def vae_to_original(sd, cfg):
    n, residual, out = cfg["num_res_blocks"], cfg.get("is_residual", False), {}
    for k, v in sd.items():
        k = re.sub(r"^quant_conv", "conv1", re.sub(r"^post_quant_conv", "conv2", k))
        k = re.sub(r"^(en|de)coder\.conv_in", r"\1coder.conv1", k)
        k = re.sub(r"^(en|de)coder\.norm_out", r"\1coder.head.0", re.sub(r"^(en|de)coder\.conv_out", r"\1coder.head.2", k))
        k = re.sub(r"mid_block\.attentions\.0", "middle.1", re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"middle.{2 * int(m[1])}", k))
        if residual:  # Wan 2.2: nested lists
            k = re.sub(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"downsamples.\1.downsamples.\2", k)
            k = re.sub(r"down_blocks\.(\d+)\.downsampler", lambda m: f"downsamples.{m[1]}.downsamples.{n}", k)
            k = re.sub(r"up_blocks\.(\d+)\.resnets\.(\d+)", r"upsamples.\1.upsamples.\2", k)
            k = re.sub(r"up_blocks\.(\d+)\.upsampler", lambda m: f"upsamples.{m[1]}.upsamples.{n + 1}", k)
        else:  # Wan 2.1: one flat list
            k = re.sub(r"down_blocks\.(\d+)", r"downsamples.\1", k)
            k = re.sub(r"up_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f"upsamples.{int(m[1]) * (n + 2) + int(m[2])}", k)
            k = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"upsamples.{int(m[1]) * (n + 2) + n + 1}", k)
        if "attentions" not in k and ".middle.1." not in k:
            k = re.sub(r"\.(norm1|conv1|norm2|conv2|conv_shortcut)\.(weight|bias|gamma)$", lambda m: f".{RES[m[1]]}.{m[2]}" if k.count(".") > 2 else m[0], k)
        out[k] = v
    return out


# ----------------------------------------------------------------------------------------------- transformers
WAN = dict(patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=24, in_channels=4, out_channels=4,
           text_dim=32, freq_dim=32, ffn_dim=96, num_layers=2, cross_attn_norm=True, eps=1e-6, rope_max_seq_len=64)


@case(model=WAN, batch=2, frames=3, height=6, width=10, text_len=7)
def wan_t2v(c, cfg):
    m = c.init(D.WanTransformer3DModel(**cfg["model"]))
    C = cfg["model"]["in_channels"]
    x, e = c.randn(cfg["batch"], C, cfg["frames"], cfg["height"], cfg["width"]), c.randn(cfg["batch"], cfg["text_len"], cfg["model"]["text_dim"])
    t = torch.linspace(999, 37, cfg["batch"]).round()
    c.add(in__hidden_states=x, in__timestep=t, in__encoder_hidden_states=e, out__sample=m(x, t, e).sample)
    one = x[:1, :, :1]
    c.add(in__image=one, out__image=m(one, t[:1], e[:1]).sample)  # a single frame is an image
    return {"weights": m}


@case(model=dict(WAN, in_channels=6, out_channels=6), frames=3, height=6, width=8, text_len=5)
def wan_ti2v(c, cfg):
    """Wan 2.2 TI2V-5B style: one timestep per token (frame 0 clean, so t = 0 there)."""
    m = c.init(D.WanTransformer3DModel(**cfg["model"]))
    x, e = c.randn(1, cfg["model"]["in_channels"], cfg["frames"], cfg["height"], cfg["width"]), c.randn(1, cfg["text_len"], cfg["model"]["text_dim"])
    n = cfg["height"] // 2 * (cfg["width"] // 2)
    t = torch.full((1, cfg["frames"] * n), 731.0); t[:, :n] = 0
    c.add(in__hidden_states=x, in__timestep=t, in__encoder_hidden_states=e, out__sample=m(x, t, e).sample)
    return {"weights": m}


@case(model=dict(WAN, in_channels=12, image_dim=20, added_kv_proj_dim=48, pos_embed_seq_len=10, num_layers=1), frames=2, height=4, width=6, image_tokens=5)
def wan_flf2v(c, cfg):
    """Wan 2.1 I2V/FLF2V 14B style: channel-concat latents+mask and CLIP tokens (text length is fixed at 512)."""
    m = c.init(D.WanTransformer3DModel(**cfg["model"]))
    x, e = c.randn(1, cfg["model"]["in_channels"], cfg["frames"], cfg["height"], cfg["width"]), c.randn(1, 512, cfg["model"]["text_dim"])
    i, t = c.randn(2, cfg["image_tokens"], cfg["model"]["image_dim"]), torch.tensor([500.0])
    c.add(in__hidden_states=x, in__timestep=t, in__encoder_hidden_states=e, in__encoder_hidden_states_image=i,
          out__sample=m(x, t, e, encoder_hidden_states_image=i).sample)
    return {"weights": m}


@case(model=dict(WAN, num_layers=4, vace_layers=[0, 2], vace_in_channels=24), frames=3, height=6, width=8, text_len=7, scale=[1.0, 0.6])
def wan_vace(c, cfg):
    m = c.init(D.WanVACETransformer3DModel(**cfg["model"]))
    s = (cfg["frames"], cfg["height"], cfg["width"])
    x, k, e = c.randn(1, cfg["model"]["in_channels"], *s), c.randn(1, cfg["model"]["vace_in_channels"], *s), c.randn(1, cfg["text_len"], cfg["model"]["text_dim"])
    t, sc = torch.tensor([250.0]), torch.tensor(cfg["scale"])
    c.add(in__hidden_states=x, in__timestep=t, in__encoder_hidden_states=e, in__control_hidden_states=k, in__control_scale=sc,
          out__sample=m(x, t, e, control_hidden_states=k, control_hidden_states_scale=sc).sample)
    return {"weights": m}


@case(model={k: v for k, v in dict(WAN, gate_value=0.25, deltatime_type="r").items()}, frames=3, height=4, width=6, text_len=5)
def anyflow(c, cfg):
    """Any-step flow-map Wan (nvidia/AnyFlow): Wan blocks, second (target) timestep r, timesteps per frame."""
    m = c.init(D.AnyFlowTransformer3DModel(**cfg["model"]))
    x, e = c.randn(1, cfg["frames"], cfg["model"]["in_channels"], cfg["height"], cfg["width"]), c.randn(1, cfg["text_len"], cfg["model"]["text_dim"])
    t, r = torch.full((1, cfg["frames"]), 800.0), torch.full((1, cfg["frames"]), 300.0)
    o = m(hidden_states=x, timestep=t, r_timestep=r, encoder_hidden_states=e, return_dict=False)[0]
    c.add(in__hidden_states=x, in__timestep=t, in__r_timestep=r, in__encoder_hidden_states=e, out__sample=o)
    return {"weights": m}


@case(model=dict(in_channels=8, out_channels=8, num_attention_heads=2, attention_head_dim=16, cross_attention_dim=32, num_layers=2, caption_channels=24),
      frames=2, height=3, width=4, text_len=6)
def ltx_dit(c, cfg):
    m = c.init(D.LTXVideoTransformer3DModel(**cfg["model"]))
    F, H, W, L = cfg["frames"], cfg["height"], cfg["width"], cfg["text_len"]
    x, e = c.randn(2, F * H * W, cfg["model"]["in_channels"]), c.randn(2, L, cfg["model"]["caption_channels"])
    mask = torch.ones(2, L); mask[1, L // 2:] = 0
    t, sc = torch.tensor([[900.0], [300.0]]), (8 / 25, 32, 32)
    c.add(in__hidden_states=x, in__encoder_hidden_states=e, in__encoder_attention_mask=mask, in__timestep=t, in__rope_interpolation_scale=torch.tensor(sc),
          out__sample=m(x, e, t, mask, F, H, W, sc).sample)
    # conditioning path: per-token timesteps and explicit pixel coordinates
    co = D.LTXConditionPipeline._prepare_video_ids(2, F, H, W)
    co = D.LTXConditionPipeline._scale_video_ids(co, 32, 8, 0).float(); co[:, 0] /= 25.0
    tt = c.rand(2, F * H * W) * 1000
    c.add(in__video_coords=co, in__token_timestep=tt, out__sample_coords=m(x, e, tt, mask, video_coords=co).sample)
    return {"weights": m}


@case(model=dict(num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=2, sample_size=8, patch_size=2, num_embeds_ada_norm=10, norm_num_groups=2))
def dit(c, cfg):
    m = c.init(D.DiTTransformer2DModel(**cfg["model"]))
    s = cfg["model"]["sample_size"]
    x, t, y = c.randn(2, 4, s, s), torch.tensor([999, 10]), torch.tensor([3, 10])  # the last class id is the null class
    c.add(in__hidden_states=x, in__timestep=t, in__class_labels=y, out__sample=m(x, timestep=t, class_labels=y).sample)
    return {"weights": m}


# ---------------------------------------- DiT with other blocks, the definitions of their papers written plainly around diffusers' parts
def sines(dim, position):
    a = position[:, None].double() / 10000 ** (torch.arange(dim // 2).double() / (dim / 2))
    return torch.cat([a.sin(), a.cos()], 1).float()


def dit_clip(m, x, t, y, attend, feed):
    """DiT over clips (B, C, F, H, W): frames' tokens one after another, a sinusoidal embedding of the frame added to that of the picture."""
    b, ch, f, h, w = x.shape
    p, d = m.patch_size, m.inner_dim
    z = m.pos_embed(x.transpose(1, 2).reshape(b * f, ch, h, w)).reshape(b, f, -1, d)
    if f > 1:
        z = z + sines(d, torch.arange(f))[None, :, None]
    z = z.reshape(b, -1, d)
    for i, k in enumerate(m.transformer_blocks):
        n, gate, shift2, scale2, gate2 = k.norm1(z, t, y, hidden_dtype=z.dtype)
        z = z + gate[:, None] * attend(i, k.attn1, n)
        z = feed(k.ff, z, k.norm3(z) * (1 + scale2[:, None]) + shift2[:, None], gate2[:, None])
    shift, scale = m.proj_out_1(torch.nn.functional.silu(m.transformer_blocks[0].norm1.emb(t, y, hidden_dtype=z.dtype))).chunk(2, 1)
    z = m.proj_out_2(m.norm_out(z) * (1 + scale[:, None]) + shift[:, None]).reshape(b, f, h // p, w // p, p, p, -1)
    return torch.einsum("bfhwpqc->bcfhpwq", z).reshape(b, -1, f, h, w)


def plain_feed(ff, z, n, gate):
    return z + gate * ff(n)


@case(model=dict(num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, num_layers=3, sample_size=8, patch_size=2, num_embeds_ada_norm=10, norm_num_groups=2),
      sample_frames=3, attention_windows=[[1, 2, 0], [0, 2, 2]], size=[3, 8, 8], picture=[1, 4, 12])
def walt(c, cfg):
    """W.A.L.T.'s windows: spatial and spatiotemporal ones in turn. Here a mask over the whole clip says who sees whom."""
    m = c.init(D.DiTTransformer2DModel(**cfg["model"]))

    def masks(f, h, w):
        at = torch.stack(torch.meshgrid(*map(torch.arange, (f, h, w)), indexing="ij"), -1).reshape(-1, 3)
        box = lambda win: at // torch.tensor([min(s or n, n) for s, n in zip(win, (f, h, w))])
        return [(box(win)[:, None] == box(win)[None]).all(-1) for win in cfg["attention_windows"]]

    def attend_within(seen):
        def attend(i, attn, n):
            q, k, v = (to(n).unflatten(-1, (attn.heads, -1)).transpose(1, 2) for to in (attn.to_q, attn.to_k, attn.to_v))
            o = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen[i % len(seen)])
            return attn.to_out[0](o.transpose(1, 2).flatten(2))
        return attend

    for name, (f, h, w) in (("", cfg["size"]), ("_picture", cfg["picture"])):
        x, t, y = c.randn(2, 4, f, h, w), torch.tensor([700, 30]), torch.tensor([2, 10])
        p = cfg["model"]["patch_size"]
        c.add(**{f"in.hidden_states{name}": x, f"in.timestep{name}": t, f"in.class_labels{name}": y,
                 f"out.sample{name}": dit_clip(m, x, t, y, attend_within(masks(f, h // p, w // p)), plain_feed)})
    return {"weights": m}


class Mssa(torch.nn.Module):
    """CRATE's attention: one projection for queries, keys and values."""

    def __init__(self, d, heads):
        super().__init__()
        self.heads, self.qkv, self.to_out = heads, torch.nn.Linear(d, d, bias=False), torch.nn.ModuleList([torch.nn.Linear(d, d)])

    def forward(self, x):
        w = self.qkv(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        a = (w @ w.transpose(-1, -2) / w.shape[-1] ** 0.5).softmax(-1)
        return self.to_out[0]((a @ w).transpose(1, 2).flatten(2))


class Ista(torch.nn.Module):
    """CRATE's second step, after the paper: a proximal gradient step on |x - D z|^2 / 2 + lambda |z|_1 with z >= 0, from z = x."""

    def __init__(self, d, step=0.1, sparsity=0.1):
        super().__init__()
        self.weight, self.step, self.sparsity = torch.nn.Parameter(torch.empty(d, d)), step, sparsity

    def forward(self, x):
        dictionary = self.weight
        gradient = (dictionary.T @ (dictionary @ x.transpose(1, 2) - x.transpose(1, 2))).transpose(1, 2)
        return (x - self.step * gradient - self.step * self.sparsity).clamp(min=0)


@case(model=dict(num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=2, sample_size=8, patch_size=2, num_embeds_ada_norm=10, norm_num_groups=2), block_kind="crate")
def crate(c, cfg):
    """DiT with white-box blocks: MSSA is added behind its gate; ISTA's codes take the stream's place as far as their gate says (1: wholly)."""
    m = D.DiTTransformer2DModel(**cfg["model"])
    for b in m.transformer_blocks:
        b.attn1, b.ff = Mssa(m.inner_dim, cfg["model"]["num_attention_heads"]), Ista(m.inner_dim)
    m = c.init(m)
    s = cfg["model"]["sample_size"]
    x, t, y = c.randn(2, 4, 1, s, s), torch.tensor([500, 3]), torch.tensor([1, 10])
    codes = lambda ff, z, n, gate: z + gate * (ff(n) - z)
    c.add(in__hidden_states=x, in__timestep=t, in__class_labels=y, out__sample=dit_clip(m, x, t, y, lambda i, attn, n: attn(n), codes))
    return {"weights": m}


@case(model=dict(in_channels=4, out_channels=8, num_attention_heads=2, attention_head_dim=16, num_layers=2, cross_attention_dim=32, caption_channels=24, patch_size=2,
                 sample_size=8, video_length=4, norm_type="ada_norm_single", activation_fn="gelu-approximate", attention_bias=True, norm_elementwise_affine=False, norm_eps=1e-6))
def latte(c, cfg):
    m = c.init(D.LatteTransformer3DModel(**cfg["model"]))
    k = cfg["model"]; x, e = c.randn(1, 4, k["video_length"], k["sample_size"], k["sample_size"]), c.randn(1, 5, k["caption_channels"])
    t = torch.tensor([321])
    c.add(in__hidden_states=x, in__timestep=t, in__encoder_hidden_states=e, out__sample=m(x, timestep=t, encoder_hidden_states=e, enable_temporal_attentions=True).sample)
    return {"weights": m}


# ------------------------------------------------------------------------------------------------------ VAEs
def vae_case(c, cfg, m, lat_shapes, pix_shapes, **dec):
    for i, s in enumerate(lat_shapes):
        z = c.randn(*s)
        c.add(**{f"in.z{i}": z, f"out.video{i}": m.decode(z, **dec).sample})
    for i, s in enumerate(pix_shapes):
        x = c.rand(*s) * 2 - 1
        p = m.encode(x).latent_dist.parameters
        c.add(**{f"in.video{i}": x, f"out.moments{i}": p})
    return {"weights": m}


@case(model=dict(base_dim=4, z_dim=4, dim_mult=[1, 2, 4, 4], num_res_blocks=2, temperal_downsample=[False, True, True], latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.5, 0.7, 2.0, 1.1]),
      latent_frames=[1, 2, 4], latent_hw=[4, 6], frames=[1, 5, 13], hw=[32, 48])
def wan_vae21(c, cfg):
    m = c.init(D.AutoencoderKLWan(**cfg["model"]))
    z, (h, w), (H, W) = cfg["model"]["z_dim"], cfg["latent_hw"], cfg["hw"]
    r = vae_case(c, cfg, m, [(1, z, f, h, w) for f in cfg["latent_frames"]], [(1, 3, f, H, W) for f in cfg["frames"]])
    m.enable_tiling(tile_sample_min_height=32, tile_sample_min_width=32, tile_sample_stride_height=24, tile_sample_stride_width=24)
    zt = c.randn(1, z, 2, 6, 8)
    c.add(**{"in.z_tiled": zt, "out.video_tiled": m.decode(zt).sample, "in.tile": torch.tensor([32, 32, 24, 24])})
    xt = c.rand(1, 3, 5, 48, 64) * 2 - 1
    c.add(**{"in.pixels_tiled": xt, "out.moments_tiled": m.encode(xt).latent_dist.parameters})
    m.disable_tiling()
    return r


@case(model=dict(base_dim=8, decoder_base_dim=8, z_dim=6, dim_mult=[1, 2, 2, 2], num_res_blocks=1, temperal_downsample=[False, True, True], is_residual=True, in_channels=12, out_channels=12,
                 patch_size=2, scale_factor_spatial=16, latents_mean=[0.0] * 6, latents_std=[1.0] * 6), latent_frames=[1, 3], latent_hw=[2, 3], frames=[1, 9], hw=[32, 48])
def wan_vae22(c, cfg):
    m = c.init(D.AutoencoderKLWan(**cfg["model"]))
    z, (h, w), (H, W) = cfg["model"]["z_dim"], cfg["latent_hw"], cfg["hw"]
    return vae_case(c, cfg, m, [(1, z, f, h, w) for f in cfg["latent_frames"]], [(1, 3, f, H, W) for f in cfg["frames"]])


KL = dict(block_out_channels=(8, 16, 16), down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3, layers_per_block=2, latent_channels=4, norm_num_groups=4)


@case(model=KL, latent_hw=[3, 5], hw=[16, 24])
def kl_vae(c, cfg):
    """The 2-D VAE of Stable Diffusion and DiT; pictures stand as clips of one frame."""
    m = c.init(D.AutoencoderKL(**cfg["model"]))
    z, x = c.randn(1, cfg["model"]["latent_channels"], *cfg["latent_hw"]), c.rand(1, 3, *cfg["hw"]) * 2 - 1
    c.add(in__z0=z[:, :, None], out__video0=m.decode(z).sample[:, :, None], in__video0=x[:, :, None], out__moments0=m.encode(x).latent_dist.parameters[:, :, None])
    return {"weights": m}


LTX_VAE = dict(in_channels=3, out_channels=3, latent_channels=8, block_out_channels=(8, 8, 16, 16), decoder_block_out_channels=(8, 8, 16, 16), layers_per_block=(1,) * 5,
               decoder_layers_per_block=(1,) * 5, patch_size=4, encoder_causal=True, decoder_causal=False)


@case(model=LTX_VAE, latent=[2, 2, 3], video=[9, 64, 96])
def ltx_vae090(c, cfg):
    m = c.init(D.AutoencoderKLLTXVideo(**cfg["model"]))
    return vae_case(c, cfg, m, [(1, 8, *cfg["latent"])], [(1, 3, *cfg["video"])])


@case(model=dict(LTX_VAE, decoder_block_out_channels=(8, 16, 32), decoder_layers_per_block=(1,) * 4, decoder_spatio_temporal_scaling=(True,) * 3, decoder_inject_noise=(False,) * 4,
                 upsample_residual=(True,) * 3, upsample_factor=(2, 2, 2), timestep_conditioning=True), latent=[2, 2, 3], video=[9, 64, 96], decode_timestep=0.05)
def ltx_vae091(c, cfg):
    """0.9.1 topology with timestep-conditioned decoder (noise injection off: it draws random numbers)."""
    m = c.init(D.AutoencoderKLLTXVideo(**cfg["model"]))
    t = torch.tensor([cfg["decode_timestep"]]); c.add(in__temb=t)
    return vae_case(c, cfg, m, [(1, 8, *cfg["latent"])], [(1, 3, *cfg["video"])], temb=t)


@case(model=dict(LTX_VAE, block_out_channels=(8, 8, 16, 16, 16), down_block_types=("LTXVideo095DownBlock3D",) * 4, decoder_block_out_channels=(8, 16, 32), layers_per_block=(1,) * 5,
                 decoder_layers_per_block=(1,) * 4, spatio_temporal_scaling=(True,) * 4, decoder_spatio_temporal_scaling=(True,) * 3, decoder_inject_noise=(False,) * 4,
                 downsample_type=("spatial", "temporal", "spatiotemporal", "spatiotemporal"), upsample_residual=(True,) * 3, upsample_factor=(2, 2, 2), timestep_conditioning=True,
                 spatial_compression_ratio=32, temporal_compression_ratio=8), latent=[2, 2, 3], video=[9, 64, 96], decode_timestep=0.05)
def ltx_vae095(c, cfg):
    m = c.init(D.AutoencoderKLLTXVideo(**cfg["model"]))
    t = torch.tensor([cfg["decode_timestep"]]); c.add(in__temb=t)
    return vae_case(c, cfg, m, [(1, 8, *cfg["latent"])], [(1, 3, *cfg["video"])], temb=t)


# ---------------------------------------------------------------------------------------------- text encoders
def text_case(c, cfg, cls, conf):
    m = c.init(cls(conf(**cfg["model"])), gain=0.7)
    ids = c.randint(cfg["model"]["vocab_size"] - 2, 2, cfg["length"]) + 2
    mask = torch.ones_like(ids); mask[1, cfg["length"] // 2:] = 0; ids[1, cfg["length"] // 2:] = 0
    c.add(in__input_ids=ids, in__attention_mask=mask, out__last_hidden_state=m(ids, mask).last_hidden_state)
    return {"weights": m}


T5 = dict(vocab_size=128, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, relative_attention_num_buckets=32, relative_attention_max_distance=128, feed_forward_proj="gated-gelu")


# Wan's wan/modules/t5.py and wan/modules/clip.py
T5_TO_ORIGINAL = [
    (r"^encoder\.block\.(\d+)\.layer\.0\.layer_norm", r"blocks.\1.norm1"), (r"^encoder\.block\.(\d+)\.layer\.1\.layer_norm", r"blocks.\1.norm2"),
    (r"^encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.relative_attention_bias", r"blocks.\1.pos_embedding.embedding"),
    (r"^encoder\.block\.(\d+)\.layer\.0\.SelfAttention", r"blocks.\1.attn"), (r"^encoder\.block\.(\d+)\.layer\.1\.DenseReluDense", r"blocks.\1.ffn"),
    (r"ffn\.wi_0", "ffn.gate.0"), (r"ffn\.wi_1", "ffn.fc1"), (r"ffn\.wo", "ffn.fc2"), (r"^shared", "token_embedding"), (r"^encoder\.final_layer_norm", "norm"),
]
CLIP_TO_ORIGINAL = [
    (r"^(?:vision_model\.)?", "visual."), (r"embeddings\.class_embedding", "cls_embedding"), (r"embeddings\.position_embedding\.weight", "pos_embedding"),
    (r"embeddings\.patch_embedding", "patch_embedding"), (r"pre_layrnorm", "pre_norm"), (r"post_layernorm", "post_norm"), (r"encoder\.layers", "transformer"),
    (r"layer_norm(\d)", r"norm\1"), (r"self_attn\.out_proj", "attn.proj"), (r"mlp\.fc1", "mlp.0"), (r"mlp\.fc2", "mlp.2"),
]


def renamed(table, name):
    for a, b in table:
        name = re.sub(a, b, name)
    return name


def clip_to_original(sd):
    """Queries, keys and values are one matrix; beside the picture's encoder stand a head and the text's."""
    out = {}
    for k, v in sd.items():
        if "q_proj" in k:
            v, k = torch.cat([sd[k.replace("q_proj", x)] for x in ("q_proj", "k_proj", "v_proj")]), k.replace("self_attn.q_proj", "attn.to_qkv")
        if "k_proj" in k or "v_proj" in k or k.endswith("position_ids"):
            continue
        k = renamed(CLIP_TO_ORIGINAL, k)
        out[k] = v[None, None] if k.endswith("cls_embedding") else v[None] if k.endswith("pos_embedding") else v
    width = out["visual.pre_norm.weight"].shape[0]
    return {**out, "visual.head": torch.zeros(width, 16), "textual.blocks.0.attn.q.weight": torch.zeros(8, 8), "log_scale": torch.tensor(2.0)}


@case(model=T5, length=160)  # longer than max_distance, so that the far buckets are hit
def umt5(c, cfg):
    """Beside transformers' names those of Wan's own file, and a GGUF with llama.cpp's."""
    import gguf as G
    models = text_case(c, cfg, TF.UMT5EncoderModel, TF.UMT5Config)
    sd = {k: v for k, v in models["weights"].state_dict().items() if k != "encoder.embed_tokens.weight"}
    os.makedirs(c.dir, exist_ok=True)
    torch.save({renamed(T5_TO_ORIGINAL, k): v.contiguous() for k, v in sd.items()}, f"{c.dir}/weights_original.pth")
    names = G.get_tensor_name_map(G.MODEL_ARCH.T5ENCODER, cfg["model"]["num_layers"])
    w = G.GGUFWriter(f"{c.dir}/weights.gguf", "t5encoder")
    for k, v in sd.items():
        w.add_tensor(names.get_name(k, try_suffixes=(".weight",)), v.contiguous().numpy())
    w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
    return models


@case(model=T5, length=24)
def t5(c, cfg):
    return text_case(c, cfg, TF.T5EncoderModel, TF.T5Config)


@case(model=dict(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2, patch_size=14, image_size=28, projection_dim=16, hidden_act="gelu"))
def clip_vision(c, cfg):
    m = c.init(TF.CLIPVisionModel(TF.CLIPVisionConfig(**cfg["model"])))
    x = c.randn(1, 3, cfg["model"]["image_size"], cfg["model"]["image_size"])
    c.add(in__pixel_values=x, out__penultimate=m(x, output_hidden_states=True).hidden_states[-2])
    os.makedirs(c.dir, exist_ok=True)
    torch.save({k: v.contiguous() for k, v in clip_to_original(m.state_dict()).items()}, f"{c.dir}/weights_original.pth")
    return {"weights": m}


WORDS = "red green blue yellow purple orange white small large circle square triangle star ball moves left right up down fast slowly bounces spins over the a an on and from to in grows shrinks sky sea night day camera pans".split()


def train_spm(path, seed, vocab):
    import sentencepiece as spm
    r = random.Random(seed)
    txt = [" ".join(r.choice(WORDS) for _ in range(r.randint(3, 12))) + r.choice([".", "!", ", 1995", " é", ""]) for _ in range(3000)]
    open(path + ".txt", "w").write("\n".join(txt))
    spm.SentencePieceTrainer.train(input=path + ".txt", model_prefix=path, vocab_size=vocab, model_type="unigram", byte_fallback=True, character_coverage=1.0, pad_id=0, eos_id=1, unk_id=2,
                                   bos_id=-1, normalization_rule_name="nmt_nfkc", minloglevel=2, num_threads=1, user_defined_symbols=[])


def make_tokenizer(folder, vocab):
    """A unigram SentencePiece model (the umT5/T5 kind) trained on the spot: spiece.model and the tokenizer.json that
    transformers makes of it. Returns the pieces, the sentencepiece processor and the transformers tokenizer."""
    import sentencepiece as spm
    from sentencepiece import sentencepiece_model_pb2 as pb
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory() as d:
        train_spm(f"{d}/m", 0, vocab)
        mp = pb.ModelProto(); mp.ParseFromString(open(f"{d}/m.model", "rb").read())
    mp.trainer_spec.ClearField("input"); mp.trainer_spec.ClearField("model_prefix")  # temporary paths
    open(f"{folder}/spiece.model", "wb").write(mp.SerializeToString())
    # transformers 5 loads the same model with byte_fallback off, so unknown characters become <unk> there
    json.dump({"tokenizer_class": "T5Tokenizer", "extra_ids": 0}, open(f"{folder}/tokenizer_config.json", "w"))
    if os.path.exists(f"{folder}/tokenizer.json"):
        os.remove(f"{folder}/tokenizer.json")  # else it would be loaded instead of spiece.model
    hf = TF.AutoTokenizer.from_pretrained(folder)
    hf.backend_tokenizer.save(f"{folder}/tokenizer.json")
    return mp, spm.SentencePieceProcessor(model_file=f"{folder}/spiece.model"), hf


# Kinds of tokenizer.json's `normalizer` that T5's and CLIP's files hold; a Precompiled is the file's own.
NORMALIZERS = [
    None,
    {"type": "Lowercase"},
    {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}, {"type": "Lowercase"}]},
    {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]},
    {"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "StripAccents"}]},
    {"type": "NFD"},
    {"type": "Nmt"},
    {"type": "Sequence", "normalizers": [{"type": "Precompiled"}, {"type": "Lowercase"}]},
    {"type": "Sequence", "normalizers": [{"type": "Strip", "strip_left": False, "strip_right": True}, {"type": "Precompiled"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"}]},
    {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": " a "}, {"type": "Replace", "pattern": {"String": "red"}, "content": "blue"}, {"type": "Strip", "strip_left": True, "strip_right": False}]},
    {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
]


def normalized_ids(folder):
    """Ids of texts with each of NORMALIZERS in a folder's tokenizer.json, by the library that reads such files. (T5Tokenizer of
    transformers 5 passes over a normalizer that is no Precompiled, which version 4 and PreTrainedTokenizerFast obey.)"""
    import tokenizers
    texts = ["A Red BALL moves Left", "ﬁne café Ünder İt", "日本 ＢＡＬＬ red"]
    whole, out = json.load(open(f"{folder}/tokenizer.json")), []
    for normalizer in NORMALIZERS:
        own = json.dumps(normalizer).replace('{"type": "Precompiled"}', json.dumps(whole["normalizer"]))
        read = tokenizers.Tokenizer.from_str(json.dumps({**whole, "normalizer": json.loads(own)}))
        out.append({"normalizer": normalizer, "ids": [read.encode(text).ids for text in texts]})
    json.dump({"texts": texts, "cases": out}, open(f"{folder}/normalizers.json", "w"), ensure_ascii=False)


@case(vocab=320, texts=["A red circle moves left.", "  two   spaces, and TABS\t ", "ｆｕｌｌｗｉｄｔｈ ① café ﬁ", "日本語の猫", "emoji 🐱 fallback", "", "x" * 40])
def tokenizer(c, cfg):
    """Token ids of awkward texts."""
    mp, sp, hf = make_tokenizer(c.dir, cfg["vocab"])
    json.dump({"texts": cfg["texts"], "ids_sentencepiece": [sp.encode(t) + [1] for t in cfg["texts"]], "ids_transformers": [hf(t).input_ids for t in cfg["texts"]], "pieces": [[p.piece, p.score, int(p.type)] for p in mp.pieces]},
              open(f"{c.dir}/expected.json", "w"), ensure_ascii=False)
    normalized_ids(c.dir)
    return {}


# ------------------------------------------------------------------------------------------------- schedulers
@case(unipc=[dict(shift=3.0, steps=6, order=2), dict(shift=5.0, steps=20, order=2), dict(shift=8.0, steps=4, order=3), dict(shift=1.0, steps=5, order=1), dict(shift=3.0, steps=50, order=2)],
      euler=[dict(shift=3.0, steps=8), dict(shift=1.0, steps=8, mu=1.2, terminal=0.1), dict(shift=8.0, steps=3, sigmas=[1.0, 0.757, 0.522]), dict(shift=1.0, steps=7, sigmas=[1.0, 0.9937, 0.9875, 0.9812, 0.975, 0.9094, 0.725])],
      shape=[1, 4, 2, 3, 3])
def schedulers(c, cfg):
    """Trajectories for given (not model-made) velocities, so that only the solver is under test."""
    def roll(tag, s, step_kw=lambda i: {}):
        x = c.randn(*cfg["shape"]); v = c.randn(len(s.timesteps), *cfg["shape"])
        c.add(**{f"in.{tag}.x": x, f"in.{tag}.v": v, f"out.{tag}.timesteps": s.timesteps.double(), f"out.{tag}.sigmas": s.sigmas.double()})
        xs = []
        for i, t in enumerate(s.timesteps):
            x = s.step(v[i], t, x, return_dict=False, **step_kw(i))[0]; xs.append(x)
        c.add(**{f"out.{tag}.traj": torch.stack(xs)})
    for i, k in enumerate(cfg["unipc"]):
        s = D.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=k["shift"], solver_order=k["order"])
        s.set_timesteps(k["steps"]); s.set_begin_index(0); roll(f"unipc{i}", s)
    for i, k in enumerate(cfg["euler"]):
        dyn = "mu" in k
        s = D.FlowMatchEulerDiscreteScheduler(shift=k["shift"], use_dynamic_shifting=dyn, shift_terminal=k.get("terminal"))
        s.set_timesteps(k["steps"], sigmas=k.get("sigmas"), mu=k.get("mu")); s.set_begin_index(0); roll(f"euler{i}", s)
    # few-step distilled models (DMD / Self-Forcing / rCM / LTX distilled): x0 = x - s v, then re-noise; noise is given
    s = D.FlowMatchEulerDiscreteScheduler(shift=1.0, stochastic_sampling=True); s.set_timesteps(sigmas=[1.0, 0.757, 0.522]); s.set_begin_index(0)
    import diffusers.schedulers.scheduling_flow_match_euler_discrete as mod
    noises = c.randn(3, *cfg["shape"]); it = iter(noises); orig = mod.randn_tensor; mod.randn_tensor = lambda *a, **k: next(it)
    c.add(**{"in.dmd.noise": noises}); roll("dmd", s); mod.randn_tensor = orig
    s = D.FlowMapEulerDiscreteScheduler(shift=5.0); s.set_timesteps(4); roll("flowmap", s)
    # v2v start: noising to the first kept timestep
    s = D.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0); s.set_timesteps(10)
    x, n = c.randn(*cfg["shape"]), c.randn(*cfg["shape"])
    c.add(**{"in.add_noise.x": x, "in.add_noise.n": n, "in.add_noise.index": torch.tensor(3), "out.add_noise": s.add_noise(x, n, s.timesteps[3:4])})
    return {}


@case(configs=[dict(clip_sample=False, steps=10), dict(clip_sample=False, steps=7, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1, set_alpha_to_one=False),
               dict(steps=9, timestep_spacing="trailing", prediction_type="v_prediction", clip_sample=False), dict(steps=6, timestep_spacing="linspace", beta_schedule="squaredcos_cap_v2", prediction_type="sample", clip_sample_range=1.5)],
      shape=[1, 4, 1, 3, 3])
def ddim(c, cfg):
    """Trajectories for given predictions; sqrt(1 - alpha) of each timestep stands for its level."""
    for i, k in enumerate(cfg["configs"]):
        s = D.DDIMScheduler(**{a: b for a, b in k.items() if a != "steps"}); s.set_timesteps(k["steps"])
        x = c.randn(*cfg["shape"]); v = c.randn(k["steps"], *cfg["shape"]); xs = []
        c.add(**{f"in.ddim{i}.x": x, f"in.ddim{i}.v": v, f"out.ddim{i}.timesteps": s.timesteps.double(),
                 f"out.ddim{i}.sigmas": torch.cat([(1 - s.alphas_cumprod[s.timesteps]).sqrt(), (1 - s.final_alpha_cumprod).sqrt()[None]]).double()})
        n = c.randn(*cfg["shape"])
        c.add(**{f"in.ddim{i}.n": n, f"out.ddim{i}.noisy": s.add_noise(x, n, s.timesteps[2:3])})
        for j, t in enumerate(s.timesteps):
            x = s.step(v[j], t, x).prev_sample; xs.append(x)
        c.add(**{f"out.ddim{i}.traj": torch.stack(xs)})
    return {}


# ------------------------------------------------------------------------------------------ whole pipelines
PIPE_VAE = dict(base_dim=8, z_dim=4, dim_mult=[1, 2, 2, 2], num_res_blocks=1, temperal_downsample=[False, True, True], latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.5, 0.7, 2.0, 1.1])


def wan_parts(c, cfg, cls=D.WanTransformer3DModel):
    tr = c.init(cls(**cfg["model"])); vae = c.init(D.AutoencoderKLWan(**cfg["vae"]))
    sch = D.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=cfg["shift"])
    e, n = c.randn(1, cfg["text_len"], cfg["model"]["text_dim"]), c.randn(1, cfg["text_len"], cfg["model"]["text_dim"])
    c.add(in__prompt_embeds=e, in__negative_prompt_embeds=n)
    f = (cfg["frames"] - 1) // 4 + 1
    lat = c.randn(1, cfg["vae"]["z_dim"], f + cfg.get("refs", 0), cfg["height"] // 8, cfg["width"] // 8); c.add(in__latents=lat)
    kw = dict(prompt_embeds=e, negative_prompt_embeds=n, latents=lat, height=cfg["height"], width=cfg["width"], num_inference_steps=cfg["steps"], guidance_scale=cfg["cfg"])
    return tr, vae, sch, kw


def finish(c, run, vae, z):
    lat = run(output_type="latent").frames
    c.add(out__latents=lat)
    mean, std = (torch.tensor(getattr(vae.config, k)).view(1, -1, 1, 1, 1) for k in ("latents_mean", "latents_std"))
    c.add(out__video=vae.decode(lat[:, :, z:] * std + mean).sample)


P = dict(model=WAN, vae=PIPE_VAE, shift=3.0, text_len=6, frames=9, height=32, width=48, steps=4, cfg=4.0)


def quiet(p):
    p.set_progress_bar_config(disable=True); return p


@case(**P)
def pipe_t2v(c, cfg):
    tr, vae, sch, kw = wan_parts(c, cfg)
    p = quiet(D.WanPipeline(tokenizer=None, text_encoder=None, vae=vae, scheduler=sch, transformer=tr))
    finish(c, lambda **k: p(num_frames=cfg["frames"], **kw, **k), vae, 0)
    return {"transformer": tr, "vae": vae}


@case(**P)
def pipe_ti2v(c, cfg):
    """Image to video by clean first latent and per-token timesteps (Wan 2.2 5B); video in is [0,1] channel-first."""
    tr, vae, sch, kw = wan_parts(c, cfg)
    img = c.rand(1, 3, cfg["height"], cfg["width"]); c.add(in__image=img)
    p = quiet(D.WanImageToVideoPipeline(tokenizer=None, text_encoder=None, vae=vae, scheduler=sch, transformer=tr, expand_timesteps=True))
    finish(c, lambda **k: p(image=img, num_frames=cfg["frames"], **kw, **k), vae, 0)
    return {"transformer": tr, "vae": vae}


@case(**dict(P, model=dict(WAN, in_channels=12)))
def pipe_flf2v(c, cfg):
    """First + last frame by channel-concatenated mask and latents (Wan 2.2 I2V-A14B style, no CLIP)."""
    tr, vae, sch, kw = wan_parts(c, cfg)
    a, b = c.rand(1, 3, cfg["height"], cfg["width"]), c.rand(1, 3, cfg["height"], cfg["width"]); c.add(in__image=a, in__last_image=b)
    p = quiet(D.WanImageToVideoPipeline(tokenizer=None, text_encoder=None, vae=vae, scheduler=sch, transformer=tr))
    finish(c, lambda **k: p(image=a, last_image=b, num_frames=cfg["frames"], **kw, **k), vae, 0)
    return {"transformer": tr, "vae": vae}


@case(**dict(P, model=dict(WAN, gate_value=0.25, deltatime_type="t-r"), shift=5.0, cfg=2.0))
def pipe_anyflow(c, cfg):
    """Flow-map steps: the model is told where each step leads (here by how far), and Euler goes there."""
    tr, vae, _, kw = wan_parts(c, cfg, D.AnyFlowTransformer3DModel)
    p = quiet(D.AnyFlowPipeline(tokenizer=None, text_encoder=None, vae=vae, scheduler=D.FlowMapEulerDiscreteScheduler(shift=cfg["shift"]), transformer=tr))
    finish(c, lambda **k: p(num_frames=cfg["frames"], **kw, **k), vae, 0)
    return {"transformer": tr, "vae": vae}


@case(**dict(P, model=dict(WAN, in_channels=12, image_dim=32, added_kv_proj_dim=48, pos_embed_seq_len=10), text_len=512, frames=5, steps=2,
             image_encoder=dict(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2, patch_size=14, image_size=28, projection_dim=16, hidden_act="gelu")))
def pipe_clip(c, cfg):
    """Wan 2.1 FLF2V and I2V style: beside the extra channels the model attends to CLIP's view of the pictures (8 bits, at the clip's size,
    as the published examples bring them there)."""
    from PIL import Image
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    tr, vae, sch, kw = wan_parts(c, cfg)
    one = c.init(D.WanTransformer3DModel(**dict(cfg["model"], pos_embed_seq_len=None)))
    clip, side = c.init(TF.CLIPVisionModel(TF.CLIPVisionConfig(**cfg["image_encoder"]))), cfg["image_encoder"]["image_size"]
    look = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=side)
    a, b = ((c.rand(cfg["height"], cfg["width"], 3) * 255).byte() for _ in range(2)); c.add(in__image_u8=a, in__last_image_u8=b)
    a, b = (Image.fromarray(x.numpy()) for x in (a, b))
    seen = torch.from_numpy(np.stack(look(images=[a, b])["pixel_values"]))
    c.add(out__pixel_values=seen, out__image_embeds=clip(seen, output_hidden_states=True).hidden_states[-2])
    run = lambda m, **k: quiet(D.WanImageToVideoPipeline(tokenizer=None, text_encoder=None, vae=vae, scheduler=sch, transformer=m, image_encoder=clip, image_processor=look))(
        image=a, num_frames=cfg["frames"], output_type="latent", **kw, **k).frames
    c.add(out__latents=run(tr, last_image=b), out__latents_i2v=run(one))
    return {"transformer": tr, "transformer_i2v": one, "vae": vae, "image_encoder": clip}


@case(**dict(P, strength=0.75))
def pipe_v2v(c, cfg):
    """SDEdit: the noised latents are given (strength picks the start), so no random draw is inside."""
    tr, vae, sch, kw = wan_parts(c, cfg)
    p = quiet(D.WanVideoToVideoPipeline(tokenizer=None, text_encoder=None, vae=vae, scheduler=sch, transformer=tr))
    finish(c, lambda **k: p(strength=cfg["strength"], **kw, **k), vae, 0)
    return {"transformer": tr, "vae": vae}


@case(**dict(P, model=dict(WAN, num_layers=2, vace_layers=[0, 1], vace_in_channels=8 + 64), refs=1, scale=0.8, shapes=[[24, 80], [64, 16], [16, 16]]))
def pipe_vace(c, cfg):
    """Masked video + reference image through the VACE control branch (sizes exact, so nothing is resampled), and what becomes of
    reference images of other shapes (multiples of 8: else Pillow resamples them first, in bytes)."""
    from PIL import Image
    tr, vae, sch, kw = wan_parts(c, cfg, D.WanVACETransformer3DModel)
    H, W, F = cfg["height"], cfg["width"], cfg["frames"]
    vid = (c.rand(F, H, W, 3) * 255).byte(); msk = torch.zeros(F, H, W, dtype=torch.uint8); msk[F // 2:] = 255; msk[:, : H // 2, : W // 3] = 255
    ref = (c.rand(H, W, 3) * 255).byte(); c.add(in__video_u8=vid, in__mask_u8=msk, in__reference_u8=ref)
    p = quiet(D.WanVACEPipeline(tokenizer=None, text_encoder=None, vae=vae, scheduler=sch, transformer=tr))
    run = lambda **k: p(video=[Image.fromarray(f.numpy()) for f in vid], mask=[Image.fromarray(f.numpy()) for f in msk], reference_images=[Image.fromarray(ref.numpy())],
                        num_frames=F, conditioning_scale=cfg["scale"], **kw, **k)
    v, m, r = p.preprocess_conditions([Image.fromarray(f.numpy()) for f in vid], [Image.fromarray(f.numpy()) for f in msk], [Image.fromarray(ref.numpy())], 1, H, W, F, torch.float32, torch.device("cpu"))
    cond = torch.cat([p.prepare_video_latents(v, m, r, None, torch.device("cpu")), p.prepare_masks(m, r)], 1)
    c.add(out__conditioning=cond)
    finish(c, run, vae, cfg["refs"])
    for i, (h, w) in enumerate(cfg["shapes"]):
        ref = (c.rand(h, w, 3) * 255).byte()
        _, _, [[seen]] = p.preprocess_conditions(None, None, Image.fromarray(ref.numpy()), 1, H, W, F, torch.float32, torch.device("cpu"))
        c.add(**{f"in__shape{i}_u8": ref, f"out__reference{i}": seen})
    return {"transformer": tr, "vae": vae}


@case(transformer=dict(num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=2, sample_size=8, patch_size=2, num_embeds_ada_norm=1000, norm_num_groups=2),
      vae=dict(KL, block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, layers_per_block=1), label="golden retriever", steps=5, cfg=4.0, seed=11)
def pipe_dit(c, cfg):
    """A saved DiTPipeline folder (model/), from a class's name and given noise (the seed's) to pixels."""
    import diffusers.pipelines.dit.pipeline_dit as mod
    labels = {0: "tench, Tinca tinca", 207: "golden retriever", 208: "Labrador retriever", 134: "crane", 517: "crane"}
    tr, vae = c.init(D.DiTTransformer2DModel(**cfg["transformer"])), c.init(D.AutoencoderKL(**cfg["vae"]))
    p = quiet(D.DiTPipeline(tr, vae, D.DDIMScheduler(clip_sample=False), id2label=labels)); p.save_pretrained(f"{c.dir}/model")
    index = json.load(open(f"{c.dir}/model/model_index.json")); index["id2label"] = {str(k): v for k, v in labels.items()}
    json.dump(index, open(f"{c.dir}/model/model_index.json", "w"), indent=1)
    s = cfg["transformer"]["sample_size"]
    noise = torch.randn(1, 4, s, s, generator=torch.Generator().manual_seed(cfg["seed"]))
    kept, decode = [], vae.decode
    vae.decode = lambda z, **k: (kept.append(z), decode(z, **k))[1]
    draw = mod.randn_tensor; mod.randn_tensor = lambda *a, **k: noise
    picture = p(p.get_label_ids([cfg["label"]]), guidance_scale=cfg["cfg"], num_inference_steps=cfg["steps"], output_type="pt").images
    mod.randn_tensor = draw
    video = decode(kept[0]).sample.clamp(-1, 1)
    assert torch.allclose(picture, video / 2 + 0.5, atol=1e-5)
    c.add(in__latents=noise[:, :, None], out__latents=(kept[0] * vae.config.scaling_factor)[:, :, None], out__video=video[:, :, None])
    return {}


# --------------------------------------------------------------------------------------------- whole folders
def folder_case(c, cfg, scheduler, dtypes):
    """A saved WanPipeline folder (model/) and what diffusers makes of it on a CPU, from prompt text to pixels."""
    model = f"{c.dir}/model"
    _, _, tok = make_tokenizer(f"{model}/tokenizer", cfg["vocab"])
    # T5 output is normalised per token, so a small gain keeps the random encoder from saturating
    te = c.init(TF.UMT5EncoderModel(TF.UMT5Config(**cfg["text_encoder"])), gain=0.7)
    tr, vae = c.init(D.WanTransformer3DModel(**cfg["transformer"])), c.init(D.AutoencoderKLWan(**cfg["vae"]))
    # files may be half precision; the numbers that ran are the rounded ones, computed in f32
    for m, t in zip((te, tr, vae), dtypes):
        m.to(getattr(torch, t))
    quiet(D.WanPipeline(tokenizer=tok, text_encoder=te, vae=vae, scheduler=scheduler, transformer=tr, expand_timesteps=cfg["expand_timesteps"])).save_pretrained(model)
    os.remove(f"{model}/tokenizer/spiece.model")  # tokenizer.json alone must do
    p = quiet(D.WanPipeline.from_pretrained(model, torch_dtype=torch.float32))
    run = lambda **k: p(prompt=cfg["prompt"], negative_prompt=cfg["negative_prompt"], width=cfg["width"], height=cfg["height"], num_frames=cfg["num_frames"], guidance_scale=cfg["guidance_scale"],
                        num_inference_steps=cfg["num_steps"], generator=torch.Generator("cpu").manual_seed(cfg["seed"]), **k).frames
    noise = p.prepare_latents(1, p.transformer.config.in_channels, cfg["height"], cfg["width"], cfg["num_frames"], torch.float32, torch.device("cpu"), torch.Generator("cpu").manual_seed(cfg["seed"]))
    embeds, negative = p.encode_prompt(cfg["prompt"], cfg["negative_prompt"], max_sequence_length=cfg["max_sequence_length"])
    lat = run(output_type="latent")
    mean, std = (torch.tensor(getattr(p.vae.config, k)).view(1, -1, 1, 1, 1) for k in ("latents_mean", "latents_std"))
    c.add(out__noise=noise, out__prompt_embeds=embeds, out__negative_prompt_embeds=negative, out__latents=lat, out__video=p.vae.decode(lat * std + mean).sample)
    pt = run(output_type="pt")[0].transpose(0, 1)[None] * 2 - 1  # the pipeline's own frames must be the same ones
    assert torch.allclose(pt, c.io["out.video"].clamp(-1, 1), atol=1e-5)
    return {}


FOLDER = dict(vocab=320, text_encoder=dict(T5, vocab_size=320), transformer=dict(WAN, num_layers=2), vae=PIPE_VAE, prompt="A red ball moves  left on\tthe grass.", negative_prompt="night, é",
              width=48, height=32, num_frames=9, num_steps=4, guidance_scale=4.0, seed=42, max_sequence_length=512, expand_timesteps=False)


@case(**FOLDER)
def folder_t2v(c, cfg):
    """Wan 2.1 style: UniPC, VAE 8x8x4, f32 files."""
    return folder_case(c, cfg, D.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0), ("float32",) * 3)


@case(**dict(FOLDER, transformer=dict(WAN, in_channels=6, out_channels=6, num_layers=2), expand_timesteps=True, prompt="two small yellow stars, and a large purple circle spins slowly", negative_prompt="",
             vae=dict(base_dim=8, decoder_base_dim=8, z_dim=6, dim_mult=[1, 2, 2, 2], num_res_blocks=1, temperal_downsample=[False, True, True], is_residual=True, in_channels=12, out_channels=12, patch_size=2,
                      scale_factor_spatial=16, latents_mean=[0.1, -0.2, 0.3, 0.0, 0.5, -0.1], latents_std=[1.5, 0.7, 2.0, 1.1, 0.9, 1.2]),
             width=96, height=32, num_steps=3, guidance_scale=2.5, seed=2**33 + 7))  # 216 latents are no multiple of 16, and the seed has 34 bits: torch.randn's odd corners
def folder_t2v_euler(c, cfg):
    """Wan 2.2 5B style: FlowMatchEuler, VAE 16x16x4, per-token timesteps, half-precision files."""
    return folder_case(c, cfg, D.FlowMatchEulerDiscreteScheduler(shift=5.0), ("float16", "bfloat16", "float32"))

# -------------------------------------------------------------------------------------- odd configurations
def changes(**files):
    """One change of one file each: `part=[dict(field=value), ..., "field to leave out", ...]`."""
    path = dict(index="model_index.json", scheduler="scheduler/scheduler_config.json", text="text_encoder/config.json", settings="tokenizer/tokenizer_config.json",
                tokenizer="tokenizer/tokenizer.json", transformer="transformer/config.json", vae="vae/config.json")
    return [dict(file=path[part], without=[e]) if isinstance(e, str) else dict(file=path[part], fields=e) for part, edits in files.items() for e in edits]


def each(field, *values):
    return [{field: v} for v in values]


def odd(c, cfg, folder, run):
    """What diffusers makes of a folder (of the case `folder`, beside this one) with each change, or that it makes nothing of it: `made` in config.json."""
    model = os.path.join(os.path.dirname(c.dir), folder, "model")
    for i, edit in enumerate(cfg["edits"]):
        with tempfile.TemporaryDirectory() as tmp:
            to = shutil.copytree(model, f"{tmp}/model"); file = f"{to}/{edit['file']}"
            config = {**json.load(open(file)), **edit.get("fields", {})}
            for field in edit.get("without", []):
                config.pop(field, None)
            json.dump(config, open(file, "w"))
            torch.manual_seed(0)
            try:
                latents, video = run(to)
            except Exception as why:
                latents, edit["why"] = None, f"{type(why).__name__}: {why}".split("\n")[0][:100]
        edit["made"] = latents is not None and bool(torch.isfinite(latents).all() and torch.isfinite(video).all())
        if edit["made"]:
            c.io[f"ref.{i}.latents"] = latents
            if edit["file"].startswith("vae"):
                c.io[f"ref.{i}.video"] = video
    return {}


@case(prompt="A red ball moves left on the grass.", negative_prompt="night", width=48, height=32, num_frames=5, num_steps=4, guidance_scale=4.0, seed=42, edits=changes(
    scheduler=each("solver_order", 1, 3) + each("solver_type", "bh1", "midpoint", "heun", "logrho") + each("flow_shift", 1.0, 7.5) + ["flow_shift"] + each("lower_order_final", False)
    + each("disable_corrector", [0], [1, 2]) + each("final_sigmas_type", "sigma_min") + each("timestep_spacing", "leading", "trailing") + each("steps_offset", 1)
    + each("num_train_timesteps", 500, 2000) + each("shift_terminal", 0.1, 0.5, 0) + each("sigma_min", 0.1) + each("sigma_max", 0.9) + each("time_shift_type", "linear")
    + each("use_dynamic_shifting", True) + each("predict_x0", False) + each("thresholding", True) + each("use_karras_sigmas", True) + each("use_exponential_sigmas", True)
    + each("use_flow_sigmas", False) + ["use_flow_sigmas"] + each("prediction_type", "v_prediction") + ["prediction_type"] + each("rescale_betas_zero_snr", True) + each("beta_schedule", "scaled_linear")
    + each("trained_betas", [0.1] * 10) + each("solver_p", "x") + each("_class_name", "FlowMatchEulerDiscreteScheduler", "DPMSolverMultistepScheduler") + ["_class_name"] + each("dynamic_thresholding_ratio", 0.5),
    transformer=[dict(num_attention_heads=n, attention_head_dim=48 // n) for n in (4, 3, 1, 6)] + each("patch_size", [1, 4, 1], [1, 1, 4], [2, 2, 1]) + ["patch_size"] + each("eps", 1e-2, 0.5) + ["eps"]
    + each("num_layers", 1) + each("cross_attn_norm", False) + ["cross_attn_norm"] + each("qk_norm", None, "rms_norm") + ["qk_norm"] + each("freq_dim", 16) + ["freq_dim"] + each("rope_max_seq_len", 8, 2)
    + ["rope_max_seq_len"] + each("out_channels", None) + ["out_channels"] + each("image_dim", 16) + each("added_kv_proj_dim", 48) + each("pos_embed_seq_len", 10) + ["text_dim"] + each("ffn_dim", 64)
    + each("vace_layers", [0]) + each("_class_name", "WanVACETransformer3DModel") + ["_class_name"],
    vae=each("latents_mean", [0.0, 0.1, 0.2, 0.3]) + ["latents_mean"] + each("latents_std", [3.0, 1.0, 0.5, 0.1]) + each("temperal_downsample", [False, True]) + each("attn_scales", [1.0]) + each("dropout", 0.5)
    + each("num_res_blocks", 2) + each("dim_mult", [1, 1, 2, 2], [1, 2, 2]) + each("is_residual", True) + each("patch_size", 2) + each("scale_factor_temporal", 2) + ["scale_factor_temporal"]
    + each("scale_factor_spatial", 16) + ["scale_factor_spatial"] + each("decoder_base_dim", 16) + each("clip_output", False) + each("non_linearity", "relu"),
    text=[dict(num_heads=n, d_kv=32 // n) for n in (2, 8)] + each("relative_attention_max_distance", 16, 4, 1000) + each("relative_attention_num_buckets", 16) + each("layer_norm_epsilon", 0.1)
    + ["layer_norm_epsilon", "relative_attention_max_distance", "relative_attention_num_buckets"] + each("feed_forward_proj", "gated-silu", "relu") + ["feed_forward_proj"]
    + each("dense_act_fn", "relu", "silu", "gelu", "gelu_pytorch_tanh") + ["dense_act_fn"] + each("is_gated_act", False) + each("is_decoder", True) + each("is_encoder_decoder", False) + each("num_layers", 1)
    + each("tie_word_embeddings", False) + each("dropout_rate", 0.9) + each("scalable_attention", False) + each("pad_token_id", 5) + each("architectures", ["T5EncoderModel"]) + ["architectures"]
    + each("model_type", "t5") + ["d_kv"] + each("vocab_size", 319),
    index=each("expand_timesteps", True) + ["expand_timesteps"] + each("boundary_ratio", 0.5) + each("_class_name", "WanVideoToVideoPipeline", "WanImageToVideoPipeline", "DiffusionPipeline") + ["_class_name"]
    + each("transformer", ["diffusers", "WanVACETransformer3DModel"]) + each("scheduler", ["diffusers", "FlowMatchEulerDiscreteScheduler"], ["diffusers", "DPMSolverMultistepScheduler"])
    + each("text_encoder", ["transformers", "T5EncoderModel"]) + each("tokenizer", ["transformers", "LlamaTokenizer"], ["transformers", "PreTrainedTokenizerFast"]) + each("vae", ["diffusers", "AutoencoderKL"]),
    settings=each("model_max_length", 4) + each("extra_ids", 100) + each("eos_token", "<unk>", {"content": "<unk>", "__type": "AddedToken"}) + ["eos_token"] + each("pad_token", "</s>") + each("unk_token", "<pad>")
    + each("tokenizer_class", "T5TokenizerFast", "LlamaTokenizer") + each("add_eos_token", False) + each("padding_side", "left") + each("truncation_side", "left") + each("do_lower_case", True) + each("legacy", False),
    tokenizer=each("truncation", {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}) + each("added_tokens", [])
    + each("padding", {"strategy": {"Fixed": 30}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>"})))
def odd_t2v(c, cfg):
    """Single changes of the configurations of folder_t2v."""
    def run(model):
        p = quiet(D.WanPipeline.from_pretrained(model, torch_dtype=torch.float32))
        lat = p(prompt=cfg["prompt"], negative_prompt=cfg["negative_prompt"], width=cfg["width"], height=cfg["height"], num_frames=cfg["num_frames"], guidance_scale=cfg["guidance_scale"],
                num_inference_steps=cfg["num_steps"], generator=torch.Generator("cpu").manual_seed(cfg["seed"]), output_type="latent").frames
        mean, std = (torch.tensor(getattr(p.vae.config, k)).view(1, -1, 1, 1, 1) for k in ("latents_mean", "latents_std"))
        return lat, p.vae.decode(lat[:, :, :1] * std + mean).sample
    return odd(c, cfg, "folder_t2v", run)


@case(label=207, num_steps=5, guidance_scale=4.0, seed=11, edits=changes(
    scheduler=each("clip_sample", True) + ["clip_sample"] + each("clip_sample_range", 0.5) + each("set_alpha_to_one", False) + each("steps_offset", 1, 50) + each("timestep_spacing", "trailing", "linspace", "x")
    + each("prediction_type", "sample", "v_prediction", "flow_prediction") + each("thresholding", True) + each("rescale_betas_zero_snr", True) + each("beta_start", 0.001) + each("beta_end", 0.05)
    + each("beta_schedule", "scaled_linear", "squaredcos_cap_v2", "sigmoid") + each("num_train_timesteps", 500) + each("trained_betas", [0.01] * 1000) + each("dynamic_thresholding_ratio", 0.5)
    + each("sample_max_value", 2.0) + each("_class_name", "PNDMScheduler", "DDPMScheduler"),
    transformer=each("activation_fn", "gelu", "geglu") + ["activation_fn"] + each("attention_bias", False) + each("norm_type", "ada_norm", "layer_norm") + each("norm_elementwise_affine", True)
    + each("norm_eps", 0.1) + ["norm_eps"] + each("upcast_attention", True) + each("dropout", 0.5) + each("norm_num_groups", 4) + [dict(num_attention_heads=n, attention_head_dim=16 // n) for n in (4, 1)]
    + each("out_channels", 4) + each("num_embeds_ada_norm", 999) + each("num_layers", 1) + each("patch_size", 1, 4) + each("cross_attention_dim", 8) + each("double_self_attention", True)
    + each("only_cross_attention", True) + each("caption_channels", 5) + each("attention_type", "gated") + each("_class_name", "Transformer2DModel"),
    vae=each("scaling_factor", 1.0) + ["scaling_factor"] + each("shift_factor", 0.5) + each("act_fn", "relu", "mish") + ["act_fn"] + each("norm_num_groups", 2, 8) + each("force_upcast", False)
    + each("layers_per_block", 2) + each("mid_block_add_attention", False) + each("use_quant_conv", False) + each("use_post_quant_conv", False) + each("latents_mean", [0.5] * 4) + each("latents_std", [2.0] * 4)
    + each("sample_size", 64) + each("block_out_channels", [8, 8]) + each("up_block_types", ["UpDecoderBlock2D", "AttnUpDecoderBlock2D"]) + ["up_block_types", "down_block_types"],
    index=each("scheduler", ["diffusers", "DDPMScheduler"], ["diffusers", "EulerDiscreteScheduler"]) + each("vae", ["diffusers", "AutoencoderKLWan"])))
def odd_dit(c, cfg):
    """Single changes of the configurations of pipe_dit."""
    import diffusers.pipelines.dit.pipeline_dit as mod
    def run(model):
        p = quiet(D.DiTPipeline.from_pretrained(model, torch_dtype=torch.float32)); s = p.transformer.config.sample_size
        noise = torch.randn(1, 4, s, s, generator=torch.Generator().manual_seed(cfg["seed"]))
        kept, decode, draw = [], p.vae.decode, mod.randn_tensor
        p.vae.decode = lambda z, **k: (kept.append(z), decode(z, **k))[1]
        mod.randn_tensor = lambda *a, **k: noise
        try:
            p([cfg["label"]], guidance_scale=cfg["guidance_scale"], num_inference_steps=cfg["num_steps"], output_type="pt")
        finally:
            mod.randn_tensor = draw
        return (kept[0] * p.vae.config.scaling_factor)[:, :, None], decode(kept[0]).sample[:, :, None]
    return odd(c, cfg, "pipe_dit", run)



# ------------------------------------------------------------------------------------------------------ GGUF
@case(types=["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "F16", "BF16"], rows=4, cols=512)
def gguf(c, cfg):
    """A .gguf with one tensor per type, plus the values the gguf package decodes; K-quants from random blocks."""
    import gguf as G
    os.makedirs(c.dir, exist_ok=True)
    w = G.GGUFWriter(f"{c.dir}/types.gguf", "wan"); rng = np.random.default_rng(int(c.randint(2**31 - 1, 1)))
    for name in cfg["types"]:
        q = G.GGMLQuantizationType[name]; x = rng.standard_normal((cfg["rows"], cfg["cols"]), dtype=np.float32)
        try:
            raw = G.quants.quantize(x, q)
        except NotImplementedError:
            bs, ts = G.GGML_QUANT_SIZES[q]; n = x.size // bs
            raw = rng.integers(0, 256, (n, ts), dtype=np.uint8)
            half = np.frombuffer(np.float16(0.01).tobytes(), np.uint8)
            for off in {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_NL": (0,), "IQ4_XS": (0,)}[name]:
                raw[:, off:off + 2] = half  # keep the f16 block scales finite
            raw = raw.reshape(cfg["rows"], -1)
        w.add_tensor(name.lower() + ".weight", raw, raw_dtype=q)
        c.add(**{"out." + name: torch.from_numpy(np.ascontiguousarray(G.quants.dequantize(raw, q), dtype=np.float32).reshape(cfg["rows"], cfg["cols"]))})
    w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
    return {}


@case(model=dict(WAN, attention_head_dim=32, ffn_dim=128), qtype="Q8_0", frames=3, height=6, width=8, text_len=7)
def wan_gguf(c, cfg):
    """A quantised Wan as ComfyUI-GGUF writes it: original names, arch "wan", 1-D and modulation F32, the 5-D patch
    embedding F32 (so n_dims = 5), matrices quantised; the output is the reference run on the decoded values."""
    import gguf as G
    os.makedirs(c.dir, exist_ok=True)
    m = c.init(D.WanTransformer3DModel(**cfg["model"])); q = G.GGMLQuantizationType[cfg["qtype"]]
    w = G.GGUFWriter(f"{c.dir}/wan.gguf", "wan"); sd = m.state_dict(); new = {}
    for (k, v), name in zip(sd.items(), dit_to_original(sd)):
        x = v.numpy()
        t = q if x.ndim == 2 else G.GGMLQuantizationType.F32
        raw = G.quants.quantize(x, t); dec = G.quants.dequantize(raw, t)
        w.add_tensor(name, raw, raw_dtype=t); new[k] = torch.from_numpy(np.array(dec, dtype=np.float32).reshape(x.shape))
    w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
    m.load_state_dict(new)
    x, e, t = c.randn(1, 4, cfg["frames"], cfg["height"], cfg["width"]), c.randn(1, cfg["text_len"], cfg["model"]["text_dim"]), torch.tensor([611.0])
    c.add(in__hidden_states=x, in__timestep=t, in__encoder_hidden_states=e, out__sample=m(x, t, e).sample)
    return {"weights": m}


# ---------------------------------------------------------------- TAEHV, the definition of madebyollin/taehv rewritten small
class Frames(torch.nn.Module):
    """Runs layers over (T, C, H, W); a MemBlock gets the frame before each frame, zeros before the first."""

    def __init__(self, layers):
        super().__init__()
        for i, m in layers.items():
            self.add_module(str(i), m)

    def forward(self, x):
        for m in self.children():
            x = m(x)
        return x


class MemBlock(torch.nn.Module):
    def __init__(self, n):
        super().__init__()
        N = torch.nn
        self.conv = N.Sequential(N.Conv2d(2 * n, n, 3, padding=1), N.ReLU(), N.Conv2d(n, n, 3, padding=1), N.ReLU(), N.Conv2d(n, n, 3, padding=1))

    def forward(self, x):
        past = torch.cat([torch.zeros_like(x[:1]), x[:-1]])
        return torch.relu(self.conv(torch.cat([x, past], 1)) + x)


class Regroup(torch.nn.Module):
    """TGrow (out > 1: channels become frames) and TPool (in > 1: frames become channels)."""

    def __init__(self, n, frames_in, frames_out):
        super().__init__()
        self.a, self.b, self.conv = frames_in, frames_out, torch.nn.Conv2d(n * frames_in, n * frames_out, 1, bias=False)

    def forward(self, x):
        t, c, h, w = x.shape
        return self.conv(x.reshape(t // self.a, c * self.a, h, w)).reshape(t // self.a * self.b, c, h, w)


class SuperMemBlock(torch.nn.Module):
    """The larger decoder's: each channel's surroundings, then each pixel's channels; nothing bends the sum."""

    def __init__(self, n):
        super().__init__()
        N = torch.nn
        self.conv = N.Sequential(N.Conv2d(2 * n, 2 * n, 7, padding=3, groups=2 * n, bias=False), N.Conv2d(2 * n, 4 * n, 1), N.ReLU(),
                                 N.Conv2d(4 * n, n, 1, bias=False))

    def forward(self, x):
        past = torch.cat([torch.zeros_like(x[:1]), x[:-1]])
        return self.conv(torch.cat([x, past], 1)) + x


class Bend(torch.nn.Module):
    def forward(self, x):
        return torch.tanh(x / 3) * 3


class Taehv(torch.nn.Module):
    def __init__(self, z, patch, widths, encoder, larger=False):
        super().__init__()
        N, (a, b, c, d), p, e = torch.nn, widths, 3 * patch * patch, encoder
        conv = lambda i, o, **kw: N.Conv2d(i, o, 3, padding=1, **kw)
        layers = [N.Conv2d(z, a, 1, bias=False)] if larger else [Bend(), conv(z, a), N.ReLU()]
        for i, o, t in [(a, b, 1), (b, c, 2), (c, d, 2)]:
            if larger:
                layers += [SuperMemBlock(i), SuperMemBlock(i), SuperMemBlock(i), conv(i, 4 * o), N.ReLU(), N.PixelShuffle(2), Regroup(o, 1, t)]
            else:
                layers += [MemBlock(i), MemBlock(i), MemBlock(i), N.Upsample(scale_factor=2), Regroup(i, 1, t), conv(i, o, bias=False)]
        self.decoder = Frames(dict(enumerate(layers + ([] if larger else [N.ReLU()]) + [conv(d, p)])))
        layers = [conv(p, e), N.ReLU()]
        for t in [2, 2, 1]:
            layers += [Regroup(e, t, 1), conv(e, e, stride=2, bias=False), MemBlock(e), MemBlock(e), MemBlock(e)]
        self.encoder, self.patch = Frames(dict(enumerate(layers + [conv(e, z)]))), patch

    def decode(self, z):
        """(1, z, f, h, w) -> (1, 3, 4 f - 3, H, W) in -1...1"""
        x = self.decoder(z[0].transpose(0, 1))
        x = torch.nn.functional.pixel_shuffle(x, self.patch).clamp(0, 1)[3:]
        return x.transpose(0, 1)[None] * 2 - 1

    def encode(self, video):
        x = torch.nn.functional.pixel_unshuffle(video[0].transpose(0, 1) / 2 + 0.5, self.patch)
        x = torch.cat([x, x[-1:].repeat(-len(x) % 4, 1, 1, 1)])
        return self.encoder(x).transpose(0, 1)[None]


def tiny_codecs(c, cfg, gain, lift=0.0):
    """`lift` moves the decoders' pixels into 0...1, outside which they are cut off."""
    out = {}
    for key, v in cfg["variants"].items():
        m = c.init(Taehv(**v), gain=gain)
        list(m.decoder.children())[-1].bias.add_(lift)
        (h, w), s = cfg["latent_hw"], 8 * v["patch"]
        for f in cfg["latent_frames"]:
            z = c.randn(1, v["z"], f, h, w) * 2
            c.add(**{f"in.{key}.z{f}": z, f"out.{key}.video{f}": m.decode(z)})
        for f in cfg["frames"]:
            x = c.rand(1, 3, f, h * s, w * s) * 2 - 1
            c.add(**{f"in.{key}.video{f}": x, f"out.{key}.latents{f}": m.encode(x)})
        out[key] = m
    return out


@case(variants=dict(weights=dict(z=4, patch=1, widths=[12, 8, 6, 6], encoder=6), weights22=dict(z=6, patch=2, widths=[10, 8, 6, 4], encoder=4)),
      latent_frames=[1, 3], latent_hw=[3, 4], frames=[1, 6])
def taehv(c, cfg):
    """The tiny decoders and encoders of both families: whole clips here, frame by frame in the port."""
    return tiny_codecs(c, cfg, 1.4)


@case(variants=dict(weights=dict(z=6, patch=2, widths=[12, 8, 6, 4], encoder=4, larger=True)),
      latent_frames=[1, 3], latent_hw=[3, 4], frames=[1])
def taehv_super(c, cfg):
    """The larger decoder; its encoder is the other one's."""
    return tiny_codecs(c, cfg, 0.85, 0.5)


def main():
    ap = argparse.ArgumentParser(); ap.add_argument("--out", default="fixtures"); ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--only", default=""); ap.add_argument("--config")
    ap.add_argument("--small", action="store_true"); a = ap.parse_args()
    global SMALL; SMALL = a.small
    torch.manual_seed(a.seed); torch.set_num_threads(1)
    over = json.load(open(a.config)) if a.config else {}
    for name in (a.only.split(",") if a.only else CASES):
        t0 = time.time(); c = Ctx(name, a.seed, a.out); cfg = merge(DEFAULTS[name], over.get(name))
        models = CASES[name](c, cfg)
        c.save({"case": name, "seed": a.seed, "args": cfg, "versions": {"torch": torch.__version__, "diffusers": D.__version__, "transformers": TF.__version__}}, models)
        kb = sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(c.dir) for f in fs) / 1024
        bad = [k for k, v in c.io.items() if v.dtype.is_floating_point and not torch.isfinite(v).all()]
        outs = [v.float() for k, v in c.io.items() if k.startswith("out")]
        print(f"{name:12s} {time.time()-t0:5.1f}s {kb:8.0f} KB  out std {[round(float(o.std()),3) for o in outs[:4]]} {'NONFINITE '+str(bad) if bad else ''}", flush=True)


if __name__ == "__main__":
    main()
