#!/usr/bin/env python3
"""Makes the goldens of adapt/test_label_head.cpp: ten steps of a small BERT with a head of labels, by method and problem.

    python3 tests/golden/classify.py        writes tests/golden/classify/*

The formulas are transformers' BertForSequenceClassification and PEFT's, written plainly in PyTorch. config.json and
model.safetensors are a model as transformers saves it, whose head has three labels. METHOD_PROBLEM.safetensors holds
tokens, kinds (token types), lengths and labels of texts and pairs in padded rows, the losses before each of ten AdamW
steps (rate 5e-3, betas .9 and .999, epsilon 1e-6, no decay), the tensors that train after them (a.NAME: of an adapter by
its names in adapter_model.safetensors, of a full run by those of model.safetensors; i.NAME: an adapter's before), and
scores of the texts afterwards; the metadata of an adapter has its adapter_config.json. All is computed in float64 from
float32 and rounded when it is stored.
"""
import json
import math
import os

import torch
import torch.nn.functional as F

from make import save

STEPS, BATCH, LENGTH, VOCAB, WIDTH, HIDDEN, LAYERS, HEADS, LABELS = 10, 5, 9, 64, 16, 24, 2, 4, 3
OPTIMIZER = dict(lr=5e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0)
HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "classify")
CONFIG = dict(architectures=["BertForSequenceClassification"], model_type="bert", hidden_size=WIDTH,
              intermediate_size=HIDDEN, num_attention_heads=HEADS, num_hidden_layers=LAYERS,
              max_position_embeddings=32, vocab_size=VOCAB, type_vocab_size=2, layer_norm_eps=1e-12, hidden_act="gelu",
              pad_token_id=0, position_embedding_type="absolute",
              id2label={str(i): f"LABEL_{i}" for i in range(LABELS)}, label2id={f"LABEL_{i}": i for i in range(LABELS)})
generator = torch.Generator().manual_seed(23)


def normal(*shape, scale=1.0):
    return (torch.randn(*shape, generator=generator) * scale).float().double()


class Bert:
    """Weights by transformers' names. `adapt` sees every linear layer."""

    def __init__(self):
        self.w = {}
        self.adapt = lambda name, x, plain: plain(x)
        e = "bert.embeddings."
        for table, rows, scale in (("word", VOCAB, .5), ("position", 32, .3), ("token_type", 2, .3)):
            self.w[e + table + "_embeddings.weight"] = normal(rows, WIDTH, scale=scale)
        self.make_norm(e + "LayerNorm")
        self.modules = []
        for i in range(LAYERS):
            h = f"bert.encoder.layer.{i}."
            for part in ("query", "key", "value"):
                self.make(h + "attention.self." + part, WIDTH, WIDTH)
            self.make(h + "attention.output.dense", WIDTH, WIDTH)
            self.make_norm(h + "attention.output.LayerNorm")
            self.make(h + "intermediate.dense", HIDDEN, WIDTH)
            self.make(h + "output.dense", WIDTH, HIDDEN)
            self.make_norm(h + "output.LayerNorm")
        self.make("bert.pooler.dense", WIDTH, WIDTH)
        self.make("classifier", LABELS, WIDTH)

    def make(self, name, out, n):
        self.w[name + ".weight"] = normal(out, n, scale=1.2 / math.sqrt(n))
        self.w[name + ".bias"] = normal(out, scale=.1)
        self.modules.append(name)

    def make_norm(self, name):
        self.w[name + ".weight"] = 1 + normal(WIDTH, scale=.1)
        self.w[name + ".bias"] = normal(WIDTH, scale=.1)

    def linear(self, x, name):
        return self.adapt(name, x, lambda y: F.linear(y, self.w[name + ".weight"], self.w[name + ".bias"]))

    def norm(self, x, name):
        return F.layer_norm(x, (WIDTH,), self.w[name + ".weight"], self.w[name + ".bias"], 1e-12)

    def scores(self, tokens, kinds, lengths):
        e, T = "bert.embeddings.", tokens.shape[1]
        x = self.w[e + "word_embeddings.weight"][tokens] + self.w[e + "token_type_embeddings.weight"][kinds]
        x = self.norm(x + self.w[e + "position_embeddings.weight"][:T], e + "LayerNorm")
        hidden = torch.arange(T)[None, :] >= lengths[:, None]
        heads = lambda t: t.view(t.shape[0], T, HEADS, -1).transpose(1, 2)
        for i in range(LAYERS):
            h = f"bert.encoder.layer.{i}."
            q, k, v = (heads(self.linear(x, h + "attention.self." + part)) for part in ("query", "key", "value"))
            weights = (q @ k.transpose(-1, -2) / math.sqrt(WIDTH // HEADS)).masked_fill(hidden[:, None, None], -1e30)
            mixed = (weights.softmax(-1) @ v).transpose(1, 2).reshape(x.shape)
            x = self.norm(x + self.linear(mixed, h + "attention.output.dense"), h + "attention.output.LayerNorm")
            inner = F.gelu(self.linear(x, h + "intermediate.dense"))
            x = self.norm(x + self.linear(inner, h + "output.dense"), h + "output.LayerNorm")
        return self.linear(torch.tanh(self.linear(x[:, 0], "bert.pooler.dense")), "classifier")


def loss_of(problem, scores, labels):
    if problem == "single_label_classification":
        return F.cross_entropy(scores, labels.argmax(-1))
    if problem == "multi_label_classification":
        return F.binary_cross_entropy_with_logits(scores, labels)
    return F.mse_loss(scores, labels)


def labels_for(problem):
    if problem == "single_label_classification":
        return F.one_hot(torch.randint(0, LABELS, (BATCH,), generator=generator), LABELS).double()
    if problem == "multi_label_classification":
        return (torch.rand(BATCH, LABELS, generator=generator) < .5).double()
    return normal(BATCH, LABELS)


def lora(base):
    r, alpha, t, chosen = 4, 8, {}, [m for m in base.modules if m.endswith((".query", ".value", ".dense"))]
    for m in chosen:
        out, n = base.w[m + ".weight"].shape
        bound = 1 / math.sqrt(n)
        t[m + ".lora_A.weight"] = (torch.rand(r, n, generator=generator) * 2 * bound - bound).float().double()
        t[m + ".lora_B.weight"] = torch.zeros(out, r).double()

    def adapt(name, x, plain):
        if name + ".lora_A.weight" not in t:
            return plain(x)
        return plain(x) + alpha / r * (x @ t[name + ".lora_A.weight"].T) @ t[name + ".lora_B.weight"].T
    return t, adapt, dict(peft_type="LORA", r=r, lora_alpha=alpha, lora_dropout=0.0, use_rslora=False, use_dora=False,
                          fan_in_fan_out=False, bias="none", target_modules=["query", "value", "dense"],
                          rank_pattern={}, alpha_pattern={}, init_lora_weights=True)


def ia3(base):
    t, forward = {}, "output.dense"
    for m in base.modules:
        out, n = base.w[m + ".weight"].shape
        if m.endswith(forward):
            t[m + ".ia3_l"] = torch.ones(1, n).double()
        elif m.endswith((".key", ".value")):
            t[m + ".ia3_l"] = torch.ones(out, 1).double()

    def adapt(name, x, plain):
        l = t.get(name + ".ia3_l")
        if l is None:
            return plain(x)
        return plain(x * l.flatten()) if name.endswith(forward) else plain(x) * l.flatten()
    return t, adapt, dict(peft_type="IA3", target_modules=["key", "value", forward], feedforward_modules=[forward],
                          fan_in_fan_out=False, init_ia3_weights=True)


def run(base, method, problem):
    tokens = torch.randint(4, VOCAB, (BATCH, LENGTH), generator=generator)
    lengths = torch.tensor([LENGTH, 3, 7, 1, 5])
    kinds = ((torch.arange(LENGTH)[None, :] >= (lengths[:, None] + 1) // 2) & (lengths[:, None] > 4)).long()
    kinds *= (torch.arange(LENGTH)[None, :] < lengths[:, None]).long()
    tokens *= (torch.arange(LENGTH)[None, :] < lengths[:, None]).long()
    labels = labels_for(problem)
    out = {"tokens": tokens.int(), "kinds": kinds.int(), "lengths": lengths.int(), "labels": labels}
    own, plain = dict(base.w), base.adapt
    head = [n for n in base.w if n.startswith("classifier.")]
    metadata = {"problem_type": problem}
    if method == "full":
        trained = base.w = {n: w.clone() for n, w in base.w.items()}
    else:
        trained, base.adapt, config = dict(lora=lora, ia3=ia3)[method](base)
        base.w = own | {n: own[n].clone() for n in head}
        trained |= {n: base.w[n] for n in head}
        for n, t in trained.items():
            out["i.base_model.model." + n] = t.clone()
        config |= dict(task_type="SEQ_CLS", base_model_name_or_path="", inference_mode=True,
                       modules_to_save=["classifier"])
        metadata["adapter_config"] = json.dumps(config)
    for t in trained.values():
        t.requires_grad_(True)
    optimizer = torch.optim.AdamW(list(trained.values()), **OPTIMIZER)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        value = loss_of(problem, base.scores(tokens, kinds, lengths), labels)
        losses.append(value.item())
        value.backward()
        optimizer.step()
    for n, t in trained.items():
        out[("a." if method == "full" else "a.base_model.model.") + n] = t.detach()
    out["losses"] = torch.tensor(losses, dtype=torch.float64)
    out["scores"] = base.scores(tokens, kinds, lengths).detach()
    save(os.path.join(HERE, f"{method}_{problem}.safetensors"), metadata, out)
    base.w, base.adapt = own, plain
    print(method, problem, losses[0], losses[-1])


def main():
    os.makedirs(HERE, exist_ok=True)
    base = Bert()
    with open(os.path.join(HERE, "config.json"), "w") as f:
        json.dump(CONFIG, f, indent=1)
    save(os.path.join(HERE, "model.safetensors"), {"format": "pt"}, base.w)
    # Draws of which PyTorch's own f32 and f64 agree within 1e-5: where a gradient is next to nothing (23: LoRA, regression)
    # Adam makes steps of its rounding.
    generator.manual_seed(25)
    problems = ("single_label_classification", "multi_label_classification", "regression")
    for method in ("full", "lora"):
        for problem in problems:
            run(base, method, problem)
    run(base, "ia3", problems[0])


main()
