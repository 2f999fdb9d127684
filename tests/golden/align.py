#!/usr/bin/env python3
"""Makes the golden of align/test_objectives.cpp: objectives of alignment on random inputs with masks.

    python3 tests/golden/align.py        writes tests/golden/align.safetensors

Each formula is written from its paper, plainly (loops where it has a recursion), in float64 over float32 inputs. Tensors
are CASE/in.NAME (what goes in), CASE/out.NAME, and CASE/grad.NAME (of the loss, by every input that has a gradient).
"""
import os

import torch
import torch.nn.functional as F

from make import save

HERE = os.path.dirname(os.path.abspath(__file__))
generator = torch.Generator().manual_seed(21)
tensors = {}


def normal(*shape, scale=1.0):
    return (torch.randn(*shape, generator=generator) * scale).float().double()


def log_probs(*shape):
    return -normal(*shape).abs() - 0.05


def mask(rows, columns):
    """Answers of different lengths at different places, without gaps; one of a token, one without any."""
    made = torch.zeros(rows, columns).double()
    for row in range(rows):
        first = int(torch.randint(0, 3, (1,), generator=generator))
        length = [1, 0][row] if row < 2 else int(torch.randint(2, columns - 2, (1,), generator=generator))
        made[row, first:first + length] = 1
    return made


def case(name, inputs, function, constant=()):
    """`function` of the inputs gives outputs; of "loss" the gradients are kept."""
    held = {key: value.clone().requires_grad_(value.dtype == torch.float64 and key not in constant)
            for key, value in inputs.items()}
    out = function(**held)
    if "loss" in out:
        out["loss"].backward()
    for key, value in held.items():
        tensors[f"{name}/in.{key}"] = value.detach()
        if value.grad is not None:
            tensors[f"{name}/grad.{key}"] = value.grad
    for key, value in out.items():
        tensors[f"{name}/out.{key}"] = value.detach().double()


# ---- tokens ----

def tokens(temperature):
    def of(logits, tokens):
        p = F.log_softmax(logits / temperature, -1)
        entropy = -(p.exp() * p).sum(-1)
        chosen = p.gather(-1, tokens.long()[..., None])[..., 0]
        return dict(loss=(chosen * 0.7).sum() + (entropy * 0.3).sum(), log_probs=chosen, entropy=entropy)
    return of


for temperature in (1.0, 0.7):
    words = torch.randint(0, 9, (3, 5), generator=generator).int()
    case(f"tokens_{temperature}", dict(logits=normal(3, 5, 9, scale=3), tokens=words), tokens(temperature))


# ---- preferences ----

def reward(center, chosen, rejected, margin=None):
    ahead = chosen - rejected - (0 if margin is None else margin)
    loss = -torch.log(1 / (1 + torch.exp(-ahead))).mean() + center * ((chosen + rejected) ** 2).mean()
    return dict(loss=loss, chosen=chosen, rejected=rejected, margin=(chosen - rejected).mean(),
                accuracy=(chosen > rejected).double().mean())


case("reward", dict(chosen=normal(7), rejected=normal(7)), lambda **x: reward(0, **x))
case("reward_centred", dict(chosen=normal(7, scale=4), rejected=normal(7, scale=4), margin=normal(7).abs()),
     lambda **x: reward(0.01, **x), constant=("margin",))


def dpo(kind, beta, wrong, policy_chosen, policy_rejected, reference_chosen, reference_rejected):
    chosen, rejected = policy_chosen - reference_chosen, policy_rejected - reference_rejected
    h = chosen - rejected
    if kind == "ipo":
        loss = ((h - 1 / (2 * beta)) ** 2).mean()
    else:
        log_sigmoid = lambda x: -torch.log1p(torch.exp(-x))
        loss = (-(1 - wrong) * log_sigmoid(beta * h) - wrong * log_sigmoid(-beta * h)).mean()
    return dict(loss=loss, chosen=beta * chosen, rejected=beta * rejected, margin=(beta * h).mean(),
                accuracy=(chosen > rejected).double().mean())


for name, kind, beta, wrong, scale in (("dpo", "sigmoid", 0.1, 0, 6), ("dpo_smooth", "sigmoid", 0.5, 0.1, 6),
                                       ("ipo", "ipo", 0.1, 0, 1)):
    inputs = {key: -normal(6, scale=scale).abs() for key in
              ("policy_chosen", "policy_rejected", "reference_chosen", "reference_rejected")}
    case(name, inputs, lambda kind=kind, beta=beta, wrong=wrong, **x: dpo(kind, beta, wrong, **x))
# Where training begins: the policy is the reference, and every h is 0.
start = {f"{who}_{what}": value for what, value in (("chosen", log_probs(5)), ("rejected", log_probs(5)))
         for who in ("policy", "reference")}
case("dpo_start", start, lambda **x: dpo("sigmoid", 0.1, 0, **x))


def kto(policy, reference, desirable, kl, beta=0.3, wanted=1.0, unwanted=1.5):
    z = kl.detach().mean().clamp(min=0)
    r = policy - reference
    loss = torch.where(desirable > 0, wanted * (1 - torch.sigmoid(beta * (r - z))),
                       unwanted * (1 - torch.sigmoid(beta * (z - r)))).mean()
    return dict(loss=loss, rewards=beta * r, kl=z)


for name, shift in (("kto", 0.8), ("kto_below", -5.0)):
    case(name, dict(policy=log_probs(8) * 4, reference=log_probs(8) * 4, kl=normal(8) + shift,
                    desirable=torch.randint(0, 2, (8,), generator=generator).double()), kto, constant=("desirable", "kl"))


# ---- rewards ----

def gae(gamma, lam):
    def of(rewards, values, mask):
        advantages = torch.zeros_like(rewards)
        for row in range(rewards.shape[0]):
            after, next_value = 0.0, 0.0
            for t in reversed(range(rewards.shape[1])):
                if mask[row, t] == 0:
                    continue
                after = rewards[row, t] + gamma * next_value - values[row, t] + gamma * lam * after
                advantages[row, t], next_value = after, values[row, t]
        n = mask.sum()
        mean = (advantages * mask).sum() / n
        variance = (((advantages - mean) * mask) ** 2).sum() / (n - 1)
        return dict(advantages=advantages, returns=(advantages + values) * mask,
                    whitened=(advantages - mean) / torch.sqrt(variance + 1e-8) * mask)
    return of


for name, gamma, lam in (("gae", 1.0, 0.95), ("gae_discounted", 0.9, 0.7), ("gae_one_step", 0.9, 0.0),
                         ("gae_sums", 1.0, 1.0)):
    with torch.no_grad():
        case(name, dict(rewards=normal(6, 11), values=normal(6, 11), mask=mask(6, 11)), gae(gamma, lam))


def groups(rewards):
    rows = rewards.view(-1, 4)
    away = rows - rows.mean(1, keepdim=True)
    out = dict(none=away, group=away / (rows.std(1, keepdim=True) + 1e-4), batch=away / (rewards.std() + 1e-4),
               leave_one_out=torch.stack([rows[:, i] - rows[:, [j for j in range(4) if j != i]].mean(1)
                                          for i in range(4)], 1))
    return {key: value.reshape(-1) for key, value in out.items()} | dict(
        flat=(rows.max(1)[0] == rows.min(1)[0]).double().mean())


with torch.no_grad():
    scores = normal(12)
    scores[4:8] = 0.25
    case("groups", dict(rewards=scores), groups)


def aggregate(kind, x, mask, longest, tokens):
    if kind in ("ppo", "bnpo"):
        return (x * mask).sum() / mask.sum()
    if kind == "dapo":
        return (x * mask).sum() / (mask.sum() if tokens is None else tokens)
    if kind == "grpo":
        return ((x * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()
    if kind == "dr_grpo":
        return (x * mask).sum() / (x.shape[0] * longest)
    return (x * mask).sum(1).mean()


def policy(kind, level, beta, policy, old, advantages, mask, reference=None, tokens=None, low=0.2, high=0.28,
           longest=13):
    change = (policy - old) * mask
    if level == "sequence":
        change = change.sum(1, keepdim=True)
    if level == "sequence_mean":
        change = change.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
    ratio = change.exp()
    a = advantages if advantages.dim() == 2 else advantages[:, None]
    terms = -torch.min(ratio * a, ratio.clamp(1 - low, 1 + high) * a)
    once = kind == "rloo" and level != "token"
    loss = terms.mean() if once else aggregate(kind, terms.expand_as(policy), mask, longest, tokens)
    out = {}
    if reference is not None:
        r = (reference - policy) * mask
        k3 = r.exp() - 1 - r
        loss = loss + beta * aggregate(kind, k3, mask, longest, tokens)
        out["kl"] = k3.sum() / mask.sum()
    hit = (((ratio < 1 - low) & (a < 0)) | ((ratio > 1 + high) & (a > 0))).double()
    clipped = hit.mean() if hit.shape[1] == 1 else (hit * mask).sum() / mask.sum()
    return dict(loss=loss, clipped=clipped, approx_kl=(((policy - old) * mask) ** 2).sum() / 2 / mask.sum(), **out)


for name, kind, level, beta in (("ppo", "ppo", "token", 0), ("grpo", "grpo", "token", 0.04),
                                ("bnpo", "bnpo", "token", 0.04), ("dapo", "dapo", "token", 0),
                                ("dr_grpo", "dr_grpo", "token", 0.04), ("rloo", "rloo", "sequence", 0.05),
                                ("reinforce", "rloo", "token", 0), ("gspo", "grpo", "sequence_mean", 0.04)):
    drawn = log_probs(6, 11)
    made = mask(6, 11)
    # What stands under the mask's zeros is large.
    now = drawn + normal(6, 11, scale=0.25 if level != "sequence" else 0.08) + (1 - made) * 300
    inputs = dict(policy=now, old=drawn, mask=made, advantages=normal(6, 11) if kind == "ppo" else normal(6))
    if beta > 0:
        inputs["reference"] = drawn + normal(6, 11, scale=0.3)
    if kind == "dapo":
        inputs["tokens"] = torch.tensor(57.0).double()
    case(name, inputs, lambda kind=kind, level=level, beta=beta, **x: policy(kind, level, beta, **x),
         constant=("old", "mask", "advantages", "reference", "tokens"))


def value(values, old, returns, mask):
    near = old + (values - old).clamp(-0.2, 0.2)
    return dict(loss=(torch.max((values - returns) ** 2, (near - returns) ** 2) * mask).sum() / mask.sum() / 2)


case("value", dict(values=normal(6, 11), old=normal(6, 11), returns=normal(6, 11), mask=mask(6, 11)), value,
     constant=("old", "returns", "mask"))


def kl(policy, reference):
    r = reference - policy
    return dict(k1=-r, k2=r * r / 2, k3=r.exp() - 1 - r)


with torch.no_grad():
    case("kl", dict(policy=log_probs(6, 11), reference=log_probs(6, 11)), kl)

save(os.path.join(HERE, "align.safetensors"), {"torch": "formulas from the papers"}, tensors)
