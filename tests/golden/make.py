#!/usr/bin/env python3
"""Makes the goldens of test_golden.cpp and test_residual.cpp: what PyTorch computes for four small
models.

    python3 tests/golden/make.py        writes tests/golden/*.safetensors

Each file holds, for one model: its configuration (metadata), weights (w.NAME), the batch, logits,
loss, the gradient of every weight (g.NAME), the losses before each of ten AdamW steps on that batch
and the weights after them (a.NAME). residual.safetensors belongs to decoder_learned.safetensors: its
residual stream at every depth (r.DEPTH), and the same and the logits after a patch. Weights are float32; everything else is computed in float64
from them and rounded once, when it is stored. Debian: apt-get install python3-torch.
"""
import json
import math
import os
import struct

import torch
import torch.nn.functional as F

OPTIMIZER = dict(lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
CLIP = 1.0
STEPS = 10
DTYPES = {torch.float32: "F32", torch.int32: "U32", torch.bool: "BOOL"}


def save(path, metadata, tensors):
    """safetensors, written by hand: an 8-byte header length, a JSON header, the bytes."""
    header, data = {"__metadata__": metadata}, b""
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        if tensor.dtype == torch.float64:
            tensor = tensor.float()
        raw = tensor.numpy().tobytes()
        header[name] = dict(dtype=DTYPES[tensor.dtype], shape=list(tensor.shape),
                            data_offsets=[len(data), len(data) + len(raw)])
        data += raw
    text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


class Transformer:
    """The model written plainly, one tensor a name, from the same configuration as Surtsey's."""

    def __init__(self, config, seed):
        self.c = dict(n_kv_head=config["n_head"], n_encoder_layer=config["n_layer"], tied=False,
                      norm_placement="pre", source_size=config["block_size"]) | config
        self.weights = {}
        self.patch, self.residuals = None, []
        self.generator = torch.Generator().manual_seed(seed)
        self.two = config["architecture"] == "encoder_decoder"
        if self.two:
            self.make_stack("encoder.", self.c["n_encoder_layer"], self.c["source_size"], False)
        self.prefix = "decoder." if self.two else ""
        self.make_stack(self.prefix, self.c["n_layer"], self.c["block_size"], self.two)
        if not self.c["tied"]:
            self.matrix(self.prefix + "head", config["vocab_size"], config["n_embd"])

    def normal(self, name, shape, deviation, mean=0.0):
        value = torch.randn(shape, generator=self.generator) * deviation + mean
        self.weights[name] = value.float().double().requires_grad_()

    def matrix(self, name, out, inner):
        self.normal(name + ".weight", (out, inner), inner ** -0.5)

    def bias(self, name, out):
        if self.c["bias"]:
            self.normal(name + ".bias", (out,), 0.1)

    def make_norm(self, name):
        self.normal(name + ".weight", (self.c["n_embd"],), 0.1, 1.0)
        self.bias(name, self.c["n_embd"])

    def make_attention(self, name):
        C = self.c["n_embd"]
        K = C // self.c["n_head"] * self.c["n_kv_head"]
        for part, out in (("q", C), ("k", K), ("v", K), ("out", C)):
            self.matrix(name + part, out, C)
            self.bias(name + part, out)

    def make_stack(self, prefix, layers, length, cross):
        C, hidden = self.c["n_embd"], self.c["n_hidden"]
        self.normal(prefix + "embed.token", (self.c["vocab_size"], C), 0.5)
        if self.c["position"] == "learned":
            self.normal(prefix + "embed.position", (length, C), 0.5)
        for i in range(layers):
            block = f"{prefix}blocks.{i}."
            self.make_norm(block + "norm1")
            self.make_attention(block + "attention.")
            if cross:
                self.make_norm(block + "norm_cross")
                self.make_attention(block + "cross.")
            self.make_norm(block + "norm2")
            for part in ("up", "gate") if self.c["activation"] == "swiglu" else ("up",):
                self.matrix(block + "mlp." + part, hidden, C)
                self.bias(block + "mlp." + part, hidden)
            self.matrix(block + "mlp.down", C, hidden)
            self.bias(block + "mlp.down", C)
        if self.c["norm_placement"] == "pre":
            self.make_norm(prefix + "norm")

    def linear(self, x, name):
        return F.linear(x, self.weights[name + ".weight"], self.weights.get(name + ".bias"))

    def norm(self, x, name):
        weight, bias = self.weights[name + ".weight"], self.weights.get(name + ".bias")
        if self.c["norm"] == "layer_norm":
            return F.layer_norm(x, (x.shape[-1],), weight, bias, 1e-5)
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * weight
        return x if bias is None else x + bias

    def rotate(self, x):
        if self.c["position"] != "rotary":
            return x
        T, D = x.shape[2], x.shape[3]
        inverse = 10000.0 ** (-torch.arange(0, D, 2, dtype=torch.float64) / D)
        angle = torch.outer(torch.arange(T, dtype=torch.float64), inverse)
        # The engine keeps these tables in float32.
        cos, sin = (torch.cat([t, t], -1).float().double() for t in (angle.cos(), angle.sin()))
        half = torch.cat([-x[..., D // 2:], x[..., :D // 2]], -1)
        return x * cos + half * sin

    def attention(self, x, memory, mask, name, causal, rotate):
        B, T, C = x.shape
        H, K = self.c["n_head"], self.c["n_kv_head"]
        D = C // H

        def heads(t, n):
            return t.view(B, -1, n, D).transpose(1, 2)

        q = heads(self.linear(x, name + "q"), H)
        k = heads(self.linear(memory, name + "k"), K)
        v = heads(self.linear(memory, name + "v"), K)
        if rotate:
            q, k = self.rotate(q), self.rotate(k)
        k, v = (t.repeat_interleave(H // K, 1) for t in (k, v))
        scores = q @ k.transpose(-2, -1) / math.sqrt(D)
        if causal:
            hidden = torch.triu(torch.ones(T, T, dtype=torch.bool), 1)
            scores = scores.masked_fill(hidden, float("-inf"))
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None, :], float("-inf"))
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(B, T, C)
        return self.linear(mixed, name + "out")

    def mlp(self, x, name):
        up = self.linear(x, name + "up")
        if self.c["activation"] == "swiglu":
            h = F.silu(self.linear(x, name + "gate")) * up
        elif self.c["activation"] == "gelu":
            h = F.gelu(up)
        else:
            h = 0.5 * up * (1 + torch.tanh(math.sqrt(2 / math.pi) * (up + 0.044715 * up ** 3)))
        return self.linear(h, name + "down")

    def point(self, x):
        """The residual stream after as many blocks as it was seen before: read, then perhaps patched."""
        depth = len(self.residuals)
        if self.patch is not None and depth == self.patch["depth"]:
            x = x.clone()
            x[:, self.patch["position"]] = self.patch["value"].double()
        self.residuals.append(x)
        return x

    def stack(self, prefix, layers, tokens, mask, causal, memory=None, memory_mask=None):
        x = F.embedding(tokens.long(), self.weights[prefix + "embed.token"])
        T, C = tokens.shape[1], self.c["n_embd"]
        if self.c["position"] == "learned":
            x = x + self.weights[prefix + "embed.position"][:T]
        elif self.c["position"] == "sinusoidal":
            rate = 10000.0 ** (-torch.arange(0, C, 2, dtype=torch.float64) / C)
            angle = torch.outer(torch.arange(T, dtype=torch.float64), rate)
            x = x + torch.stack([angle.sin(), angle.cos()], -1).view(T, C).float().double()
        pre = self.c["norm_placement"] == "pre"
        x = self.point(x)

        def branch(x, norm, function):
            return x + function(self.norm(x, norm)) if pre else self.norm(x + function(x), norm)

        for i in range(layers):
            b = f"{prefix}blocks.{i}."
            x = branch(x, b + "norm1",
                       lambda h: self.attention(h, h, mask, b + "attention.", causal, True))
            if memory is not None:
                x = branch(x, b + "norm_cross",
                           lambda h: self.attention(h, memory, memory_mask, b + "cross.", False,
                                                    False))
            x = self.point(branch(x, b + "norm2", lambda h: self.mlp(h, b + "mlp.")))
        return self.norm(x, prefix + "norm") if pre else x

    def logits(self, batch):
        memory = None
        if self.two:
            memory = self.stack("encoder.", self.c["n_encoder_layer"], batch["source"],
                                batch["source_mask"], False)
        causal = self.c["architecture"] != "encoder"
        x = self.stack(self.prefix, self.c["n_layer"], batch["tokens"], batch.get("token_mask"),
                       causal, memory, batch.get("source_mask"))
        head = "embed.token" if self.c["tied"] else "head.weight"
        return x @ self.weights[self.prefix + head].T

    def loss(self, batch):
        each = F.cross_entropy(self.logits(batch).flatten(0, 1), batch["targets"].flatten().long(),
                               reduction="none")
        weights = batch["weights"].double().flatten()
        return (each * weights).sum() / weights.sum()


def make_batch(config, seed):
    generator = torch.Generator().manual_seed(seed)
    B, T, V = 3, config["block_size"] - 1, config["vocab_size"]

    def tokens(length):
        return torch.randint(0, V, (B, length), generator=generator, dtype=torch.int32)

    def mask(length):  # the rows are of different lengths, the rest is padding
        lengths = torch.tensor([length, length - 2, length - 3])
        return torch.arange(length)[None, :] < lengths[:, None]

    batch = dict(tokens=tokens(T), targets=tokens(T))
    batch["weights"] = torch.rand((B, T), generator=generator).float()
    batch["weights"][:, 0] = 0  # ignored
    if config["architecture"] == "encoder":
        # Masked-token loss: a third of the tokens is replaced by the last of the vocabulary, only
        # these count, and the original is the target.
        chosen = torch.rand((B, T), generator=generator) < 0.34
        chosen[:, 1] = True
        batch["token_mask"] = mask(T)
        chosen &= batch["token_mask"]
        batch["targets"] = batch["tokens"].clone()
        mask_token = torch.tensor(V - 1, dtype=torch.int32)
        batch["tokens"] = torch.where(chosen, mask_token, batch["tokens"])
        batch["weights"] = chosen.float()
    if config["architecture"] == "encoder_decoder":
        batch["source"] = tokens(config["source_size"])
        batch["source_mask"] = mask(config["source_size"])
    return batch


def make(path, config, seed):
    model, batch = Transformer(config, seed), make_batch(config, seed + 100)
    out = dict(batch)
    weights = model.weights
    out |= {"w." + name: w.detach().clone() for name, w in weights.items()}
    loss = model.loss(batch)
    loss.backward()
    out |= {"g." + name: w.grad.clone() for name, w in weights.items()}
    out |= dict(logits=model.logits(batch), loss=loss)
    optimizer = torch.optim.AdamW(list(weights.values()), **OPTIMIZER)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = model.loss(batch)
        losses.append(loss.item())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(weights.values()), CLIP)
        optimizer.step()
    out["losses"] = torch.tensor(losses, dtype=torch.float64)
    out |= {"a." + name: w.detach() for name, w in weights.items()}
    save(path, {"config": json.dumps(config, sort_keys=True), "torch": torch.__version__}, out)
    count = sum(w.numel() for w in weights.values())
    print(f"{path}: {count} parameters, loss {losses[0]:.4f} -> {losses[-1]:.4f}, "
          f"{os.path.getsize(path)} bytes")


def make_residual(path, config, seed):
    """The model and the batch of make() with the same seed; only what is read and patched is stored."""
    model, batch = Transformer(config, seed), make_batch(config, seed + 100)
    generator = torch.Generator().manual_seed(seed + 200)
    value = torch.randn((len(batch["tokens"]), config["n_embd"]), generator=generator).float()
    out = {"patch.value": value}
    for name, patch in (("r", None), ("p", dict(depth=1, position=3, value=value))):
        model.patch, model.residuals = patch, []
        out[name + ".logits"] = model.logits(batch)
        out |= {f"{name}.{depth}": x for depth, x in enumerate(model.residuals)}
    save(path, {"torch": torch.__version__}, out)
    print(f"{path}: {os.path.getsize(path)} bytes")


def main():
    small = dict(n_layer=2, n_head=4, n_embd=16, n_hidden=40, block_size=8, vocab_size=13)
    models = {
        "decoder_learned": small | dict(architecture="decoder", position="learned", bias=True,
                                        norm="layer_norm", activation="gelu"),
        "decoder_rotary": small | dict(architecture="decoder", position="rotary", bias=False,
                                       norm="rms_norm", activation="swiglu", n_kv_head=2),
        "encoder": small | dict(architecture="encoder", position="sinusoidal", bias=True,
                                norm="layer_norm", activation="gelu_tanh", norm_placement="post"),
        "encoder_decoder": small | dict(architecture="encoder_decoder", position="learned",
                                        bias=True, norm="layer_norm", activation="gelu", tied=True,
                                        n_encoder_layer=1, source_size=6),
    }
    folder = os.path.dirname(os.path.abspath(__file__))
    torch.set_num_threads(1)
    for seed, (name, config) in enumerate(models.items()):
        make(os.path.join(folder, name + ".safetensors"), config, seed + 1)
    make_residual(os.path.join(folder, "residual.safetensors"), models["decoder_learned"], 1)


if __name__ == "__main__":
    main()
