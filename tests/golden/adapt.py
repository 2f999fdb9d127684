#!/usr/bin/env python3
"""Makes the goldens of adapt/test_adaptation.cpp: ten steps of every way of adapting a small GPT-2 and a small LLaMA.

    python3 tests/golden/adapt.py        writes tests/golden/adapt/{gpt2,llama}/*

The formulas are PEFT's, written plainly in PyTorch (PEFT itself is not a Debian package). A family's folder is a model as
transformers saves it; METHOD.safetensors beside it holds tokens, targets, weights, the losses before each of ten AdamW
steps (rate 5e-3, betas .9 and .999, epsilon 1e-6, no decay), the adapter's tensors before them (i.NAME) and after
(a.NAME), by their names in adapter_model.safetensors, and logits with it afterwards; the metadata has its
adapter_config.json. All is computed in float64 from float32 and rounded when it is stored.
"""
import json
import math
import os

import torch
import torch.nn.functional as F

from make import save

STEPS, BATCH, LENGTH, VOCAB, WIDTH, HIDDEN, LAYERS, HEADS = 10, 3, 7, 23, 16, 24, 2, 4
OPTIMIZER = dict(lr=5e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0)
VIRTUAL = 3
HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "adapt")
generator = torch.Generator().manual_seed(15)


def normal(*shape, scale=1.0):
    return (torch.randn(*shape, generator=generator) * scale).float().double()


class Base:
    """Weights by transformers' names; a subclass runs them. `adapt` sees every linear layer, `prefix` every attention."""

    def __init__(self):
        self.w = {}
        self.adapt = lambda name, x, plain: plain(x)
        self.prefix = None  # layer -> (k, v) [K, P, D]
        self.prompt = None  # [P, C]

    def attention(self, q, k, v, layer):
        # [B, heads, T, D]; keys of a prefix stand before.
        before = 0
        if self.prefix is not None:
            pk, pv = self.prefix(layer)
            before = pk.shape[1]
            k = torch.cat([pk.expand(k.shape[0], -1, -1, -1), k], 2)
            v = torch.cat([pv.expand(v.shape[0], -1, -1, -1), v], 2)
        group = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        T, S = scores.shape[-2:]
        seen = torch.arange(S)[None, :] <= torch.arange(T)[:, None] + before
        return scores.masked_fill(~seen, -1e30).softmax(-1) @ v

    def heads(self, x, count):
        return x.view(x.shape[0], x.shape[1], count, -1).transpose(1, 2)

    def embed(self, tokens, table):
        x = self.w[table][tokens]
        if self.prompt is not None:
            x = torch.cat([self.prompt.expand(x.shape[0], -1, -1), x], 1)
        return x

    def places(self, length):
        first = VIRTUAL if self.prefix is not None else 0
        return torch.arange(first, first + length)

    def logits(self, tokens):
        x = self.run(tokens)
        return x[:, -tokens.shape[1]:]


class Gpt2(Base):
    config = dict(architectures=["GPT2LMHeadModel"], model_type="gpt2", n_embd=WIDTH, n_head=HEADS, n_layer=LAYERS,
                  n_inner=HIDDEN, n_positions=16, vocab_size=VOCAB, activation_function="gelu_new",
                  layer_norm_epsilon=1e-5, tie_word_embeddings=True, bos_token_id=0, eos_token_id=0)
    family, transposed, key_heads = "gpt2", True, HEADS
    names = dict(o="attn.c_proj", down="mlp.c_proj")

    def __init__(self):
        super().__init__()
        add = self.w.__setitem__
        add("transformer.wte.weight", normal(VOCAB, WIDTH, scale=.5))
        add("transformer.wpe.weight", normal(16, WIDTH, scale=.3))
        for i in range(LAYERS):
            h = f"transformer.h.{i}."
            for ln in ("ln_1", "ln_2"):
                add(h + ln + ".weight", 1 + normal(WIDTH, scale=.1))
                add(h + ln + ".bias", normal(WIDTH, scale=.1))
            for name, n, m in (("attn.c_attn", WIDTH, 3 * WIDTH), ("attn.c_proj", WIDTH, WIDTH),
                               ("mlp.c_fc", WIDTH, HIDDEN), ("mlp.c_proj", HIDDEN, WIDTH)):
                add(h + name + ".weight", normal(n, m, scale=1 / math.sqrt(n)))
                add(h + name + ".bias", normal(m, scale=.1))
        add("transformer.ln_f.weight", 1 + normal(WIDTH, scale=.1))
        add("transformer.ln_f.bias", normal(WIDTH, scale=.1))

    def weight(self, module):  # [out, in]
        return self.w[module + ".weight"].T

    def modules(self):
        return [f"transformer.h.{i}.{m}" for i in range(LAYERS)
                for m in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")]

    def linear(self, x, name):
        return self.adapt(name, x, lambda y: F.linear(y, self.weight(name), self.w[name + ".bias"]))

    def norm(self, x, name):
        return F.layer_norm(x, (WIDTH,), self.w[name + ".weight"], self.w[name + ".bias"], 1e-5)

    def run(self, tokens):
        x = self.embed(tokens, "transformer.wte.weight")
        x = x + self.w["transformer.wpe.weight"][self.places(x.shape[1])]
        for i in range(LAYERS):
            h = f"transformer.h.{i}."
            q, k, v = self.linear(self.norm(x, h + "ln_1"), h + "attn.c_attn").split(WIDTH, -1)
            mixed = self.attention(*(self.heads(t, HEADS) for t in (q, k, v)), i)
            x = x + self.linear(mixed.transpose(1, 2).reshape(x.shape), h + "attn.c_proj")
            inner = F.gelu(self.linear(self.norm(x, h + "ln_2"), h + "mlp.c_fc"), approximate="tanh")
            x = x + self.linear(inner, h + "mlp.c_proj")
        return self.norm(x, "transformer.ln_f") @ self.w["transformer.wte.weight"].T


class Llama(Base):
    key_heads = 2
    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=WIDTH, intermediate_size=HIDDEN,
                  num_attention_heads=HEADS, num_key_value_heads=key_heads, num_hidden_layers=LAYERS,
                  max_position_embeddings=32, vocab_size=VOCAB, rms_norm_eps=1e-5, rope_theta=100.0,
                  tie_word_embeddings=False, hidden_act="silu", bos_token_id=0, eos_token_id=0)
    family, transposed = "llama", False
    names = dict(o="self_attn.o_proj", down="mlp.down_proj")

    def __init__(self):
        super().__init__()
        add = self.w.__setitem__
        kv = WIDTH // HEADS * self.key_heads
        self.shapes = {"self_attn.q_proj": (WIDTH, WIDTH), "self_attn.k_proj": (kv, WIDTH),
                       "self_attn.v_proj": (kv, WIDTH), "self_attn.o_proj": (WIDTH, WIDTH),
                       "mlp.gate_proj": (HIDDEN, WIDTH), "mlp.up_proj": (HIDDEN, WIDTH),
                       "mlp.down_proj": (WIDTH, HIDDEN)}
        add("model.embed_tokens.weight", normal(VOCAB, WIDTH, scale=.5))
        for i in range(LAYERS):
            h = f"model.layers.{i}."
            for name in ("input_layernorm", "post_attention_layernorm"):
                add(h + name + ".weight", 1 + normal(WIDTH, scale=.1))
            for name, (out, n) in self.shapes.items():
                add(h + name + ".weight", normal(out, n, scale=1 / math.sqrt(n)))
        add("model.norm.weight", 1 + normal(WIDTH, scale=.1))
        add("lm_head.weight", normal(VOCAB, WIDTH, scale=.3))

    def weight(self, module):
        return self.w[module + ".weight"]

    def modules(self):
        return [f"model.layers.{i}.{m}" for i in range(LAYERS) for m in self.shapes]

    def linear(self, x, name):
        return self.adapt(name, x, lambda y: F.linear(y, self.w[name + ".weight"]))

    def norm(self, x, name):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.w[name + ".weight"]

    def rotate(self, x):
        half = x.shape[-1] // 2
        rates = 100.0 ** (-torch.arange(half, dtype=torch.float64) / half)
        angles = self.places(x.shape[2])[:, None] * rates
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], -1)

    def run(self, tokens):
        x = self.embed(tokens, "model.embed_tokens.weight")
        for i in range(LAYERS):
            h = f"model.layers.{i}."
            y = self.norm(x, h + "input_layernorm")
            q = self.rotate(self.heads(self.linear(y, h + "self_attn.q_proj"), HEADS))
            k = self.rotate(self.heads(self.linear(y, h + "self_attn.k_proj"), self.key_heads))
            v = self.heads(self.linear(y, h + "self_attn.v_proj"), self.key_heads)
            mixed = self.attention(q, k, v, i).transpose(1, 2).reshape(x.shape)
            x = x + self.linear(mixed, h + "self_attn.o_proj")
            y = self.norm(x, h + "post_attention_layernorm")
            inner = F.silu(self.linear(y, h + "mlp.gate_proj")) * self.linear(y, h + "mlp.up_proj")
            x = x + self.linear(inner, h + "mlp.down_proj")
        return self.norm(x, "model.norm") @ self.w["lm_head.weight"].T


class Method:
    """tensors: by their names in the file (base_model.model. apart). hang() puts them at a model's doors."""

    def __init__(self, base):
        self.base, self.t, self.config = base, {}, {}

    def named(self, ends):
        return [m for m in self.base.modules() if any(m.endswith("." + e) for e in ends)]


class Lora(Method):
    def __init__(self, base, targets, r=4, alpha=8, rslora=False, dora=False, ranks={}, alphas={}):
        super().__init__(base)
        self.scale, self.dora = {}, dora
        first = lambda table, module, default: next((v for k, v in table.items() if module.endswith("." + k)), default)
        for m in self.named(targets):
            out, n = base.weight(m).shape
            rank, a = first(ranks, m, r), first(alphas, m, alpha)
            self.scale[m] = a / (math.sqrt(rank) if rslora else rank)
            bound = 1 / math.sqrt(n)
            self.t[m + ".lora_A.weight"] = (torch.rand(rank, n, generator=generator) * 2 * bound - bound).double()
            self.t[m + ".lora_B.weight"] = torch.zeros(out, rank).double()
            if dora:
                self.t[m + ".lora_magnitude_vector"] = base.weight(m).norm(dim=1).float().double()
        self.config = dict(peft_type="LORA", r=r, lora_alpha=alpha, lora_dropout=0.0, use_rslora=rslora, use_dora=dora,
                           fan_in_fan_out=base.transposed, bias="none", target_modules=list(targets),
                           rank_pattern=ranks, alpha_pattern=alphas, init_lora_weights=True, modules_to_save=None)

    def hang(self):
        def adapt(name, x, plain):
            if name not in self.scale:
                return plain(x)
            a, b, s = self.t[name + ".lora_A.weight"], self.t[name + ".lora_B.weight"], self.scale[name]
            change = s * (x @ a.T) @ b.T
            if not self.dora:
                return plain(x) + change
            w = self.base.weight(name)
            norm = (w + s * (b @ a).detach()).norm(dim=1).detach()
            scale = self.t[name + ".lora_magnitude_vector"] / norm
            return plain(x) + (scale - 1) * (x @ w.T) + scale * change
        self.base.adapt = adapt


class Ia3(Method):
    def __init__(self, base, targets, forward):
        super().__init__(base)
        self.forward = self.named(forward)
        for m in self.named(targets):
            out, n = base.weight(m).shape
            self.t[m + ".ia3_l"] = torch.ones((1, n) if m in self.forward else (out, 1)).double()
        self.config = dict(peft_type="IA3", target_modules=list(targets), feedforward_modules=list(forward),
                           fan_in_fan_out=base.transposed, init_ia3_weights=True, modules_to_save=None)

    def hang(self):
        def adapt(name, x, plain):
            l = self.t.get(name + ".ia3_l")
            if l is None:
                return plain(x)
            return plain(x * l.flatten()) if name in self.forward else plain(x) * l.flatten()
        self.base.adapt = adapt


class Prefix(Method):
    def __init__(self, base):
        super().__init__(base)
        K, D = base.key_heads, WIDTH // HEADS
        self.t["prompt_embeddings"] = normal(VIRTUAL, LAYERS * 2 * K * D)
        self.config = dict(peft_type="PREFIX_TUNING", num_virtual_tokens=VIRTUAL, token_dim=K * D, num_layers=LAYERS,
                           num_attention_heads=K, num_transformer_submodules=1, prefix_projection=False,
                           encoder_hidden_size=WIDTH)

    def hang(self):
        def prefix(layer):
            K, D = self.base.key_heads, WIDTH // HEADS
            whole = self.t["prompt_embeddings"].view(VIRTUAL, LAYERS * 2, K, D).permute(1, 2, 0, 3)
            return whole[2 * layer], whole[2 * layer + 1]
        self.base.prefix = prefix


class Prompt(Method):
    def __init__(self, base):
        super().__init__(base)
        self.t["prompt_embeddings"] = normal(VIRTUAL, WIDTH)
        self.config = dict(peft_type="PROMPT_TUNING", num_virtual_tokens=VIRTUAL, token_dim=WIDTH, num_layers=LAYERS,
                           num_attention_heads=base.key_heads, num_transformer_submodules=1,
                           prompt_tuning_init="RANDOM", prompt_tuning_init_text=None, tokenizer_name_or_path=None)

    def hang(self):
        self.base.prompt = self.t["prompt_embeddings"]


class Adapters(Method):
    def __init__(self, base, kind, inside):
        super().__init__(base)
        ends = [base.names["down"]] + ([base.names["o"]] if kind == "houlsby" else [])
        for m in self.named(ends):
            self.t[m + ".adapter_down.weight"] = normal(inside, WIDTH, scale=.3)
            self.t[m + ".adapter_down.bias"] = normal(inside, scale=.1)
            self.t[m + ".adapter_up.weight"] = normal(WIDTH, inside, scale=.1)
            self.t[m + ".adapter_up.bias"] = torch.zeros(WIDTH).double()
        self.config = dict(peft_type="ADAPTERS", adapter_kind=kind, reduction_factor=WIDTH // inside,
                           non_linearity="gelu")

    def hang(self):
        def adapt(name, x, plain):
            h, t = plain(x), self.t
            if name + ".adapter_down.weight" not in t:
                return h
            inner = F.gelu(F.linear(h, t[name + ".adapter_down.weight"], t[name + ".adapter_down.bias"]))
            return h + F.linear(inner, t[name + ".adapter_up.weight"], t[name + ".adapter_up.bias"])
        self.base.adapt = adapt


class BitFit(Method):
    """Biases that GPT-2 has, by our names for them; those that LLaMA has not."""

    def __init__(self, base):
        super().__init__(base)
        self.own = {}
        if base.family == "gpt2":
            for name in base.w:
                if not name.endswith(".bias"):
                    continue
                ours = name.replace("transformer.", "").replace("h.", "layers.", 1) if ".h." in name else "norm.bias"
                for theirs, our in (("ln_1", "norm1"), ("ln_2", "norm2"), ("attn.c_proj", "attention.out"),
                                    ("mlp.c_fc", "mlp.up"), ("mlp.c_proj", "mlp.down")):
                    ours = ours.replace(theirs, our)
                if "c_attn" in ours:
                    for part, rows in zip("qkv", base.w[name].split(WIDTH)):
                        self.t[ours.replace("attn.c_attn", "attention." + part)] = rows.clone()
                    self.own[name] = [ours.replace("attn.c_attn", "attention." + part) for part in "qkv"]
                else:
                    self.t[ours] = base.w[name].clone()
                    self.own[name] = [ours]
        else:
            for m in base.modules():
                self.t[m + ".bias"] = torch.zeros(base.weight(m).shape[0]).double()
        self.config = dict(peft_type="BITFIT")

    def hang(self):
        for name, parts in self.own.items():
            self.base.w[name] = torch.cat([self.t[part] for part in parts])

        def adapt(name, x, plain):
            bias = self.t.get(name + ".bias")
            return plain(x) if bias is None else plain(x) + bias
        self.base.adapt = adapt


def train(base, method, folder, name):
    tokens = torch.randint(0, VOCAB, (BATCH, LENGTH), generator=generator)
    targets = torch.randint(0, VOCAB, (BATCH, LENGTH), generator=generator)
    weights = (torch.rand(BATCH, LENGTH, generator=generator) < .8).double()
    out = {"tokens": tokens.int(), "targets": targets.int(), "weights": weights}
    own, plain = dict(base.w), (base.adapt, base.prefix, base.prompt)
    file = lambda n: n if n == "prompt_embeddings" else "base_model.model." + n
    for n, t in method.t.items():
        out["i." + file(n)] = t.clone()
        t.requires_grad_(True)
    optimizer = torch.optim.AdamW(list(method.t.values()), **OPTIMIZER)
    losses = []

    def loss():
        method.hang()
        each = F.cross_entropy(base.logits(tokens).reshape(-1, VOCAB), targets.reshape(-1), reduction="none")
        return (each * weights.reshape(-1)).sum() / weights.sum()
    for _ in range(STEPS):
        optimizer.zero_grad()
        value = loss()
        losses.append(value.item())
        value.backward()
        optimizer.step()
    method.hang()
    for n, t in method.t.items():
        out["a." + file(n)] = t.detach()
    out["losses"] = torch.tensor(losses, dtype=torch.float64)
    out["logits"] = base.logits(tokens).detach()
    config = dict(task_type="CAUSAL_LM", base_model_name_or_path="", inference_mode=True) | method.config
    save(os.path.join(folder, name + ".safetensors"), {"adapter_config": json.dumps(config)}, out)
    base.w, (base.adapt, base.prefix, base.prompt) = own, plain
    print(folder, name, losses[0], losses[-1])


def main():
    for make in (Gpt2, Llama):
        base = make()
        folder = os.path.join(HERE, base.family)
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump(base.config, f, indent=1)
        save(os.path.join(folder, "model.safetensors"), {"format": "pt"}, base.w)
        gpt2 = base.family == "gpt2"
        every = ["c_attn", "c_proj", "c_fc"] if gpt2 else [
            "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        train(base, Lora(base, every), folder, "lora")
        patterns = dict(ranks={"c_fc": 2, "0.attn.c_attn": 6}, alphas={"attn.c_proj": 3}) if gpt2 else dict(
            ranks={"layers.1.self_attn.q_proj": 6, "q_proj": 2}, alphas={"down_proj": 3, "o_proj": 20})
        train(base, Lora(base, every, rslora=True, **patterns), folder, "rslora")
        train(base, Lora(base, every, dora=True), folder, "dora")
        ia3 = (["c_attn", "mlp.c_proj"], ["mlp.c_proj"]) if gpt2 else (["k_proj", "v_proj", "down_proj"], ["down_proj"])
        train(base, Ia3(base, *ia3), folder, "ia3")
        train(base, Prefix(base), folder, "prefix")
        train(base, Prompt(base), folder, "prompt")
        train(base, BitFit(base), folder, "bitfit")
        train(base, Adapters(base, "houlsby" if gpt2 else "pfeiffer", 4), folder, "adapters")


main()
