#!/usr/bin/env python3
"""Makes tests/golden/statistics.json: what SciPy says where it has the function, else what counting
everything says, 20 cases each.

    python3 tests/golden/statistics.py

Debian: apt-get install python3-scipy. Fits are SciPy's own minimisers, started from many points, on
the formulas of experiments/statistics/.
"""
import itertools
import json
import math
import os

import numpy as np
from scipy import optimize, special, stats

CASES = 20
random = np.random.default_rng(20)


def proportions():
    cases = []
    for i in range(CASES):
        n = int(random.integers(1, 2000))
        k = [0, n, n // 2][i] if i < 3 else int(random.integers(0, n + 1))
        confidence = float(random.choice([0.9, 0.95, 0.99, 0.998]))
        test = stats.binomtest(k, n)
        ends = {}
        for name, method in (("wilson", "wilson"), ("clopper_pearson", "exact")):
            found = test.proportion_ci(confidence, method=method)
            ends[name] = [found.low, found.high]
        cases.append(dict(successes=k, trials=n, confidence=confidence, **ends))
    return cases


def distributions():
    cases = []
    for _ in range(CASES):
        a, b = (float(10 ** random.uniform(-1, 3)) for _ in range(2))
        p, degrees = float(random.uniform(1e-4, 1 - 1e-4)), float(random.integers(1, 60))
        n = int(random.integers(1, 1000))
        k, rate = int(random.integers(0, n + 1)), float(random.uniform(0.01, 0.99))
        correlation = float(10 ** random.uniform(-4, -0.2))
        total = 1 / correlation - 1
        cases.append(dict(
            a=a, b=b, probability=p, degrees=degrees, successes=k, trials=n, rate=rate,
            correlation=correlation,
            beta_quantile=stats.beta.ppf(p, a, b), beta=stats.beta.cdf(a / (a + b), a, b),
            normal_quantile=stats.norm.ppf(p), t_quantile=stats.t.ppf(p, degrees),
            tail=stats.binom.sf(k - 1, n, rate),
            log_beta_binomial=stats.betabinom.logpmf(k, n, rate * total, (1 - rate) * total)))
    return cases


def seed_means():
    cases = []
    for _ in range(CASES):
        values = random.uniform(0, 1, int(random.integers(2, 12)))
        confidence = float(random.choice([0.9, 0.95, 0.99]))
        low, high = stats.t.interval(confidence, len(values) - 1, values.mean(), stats.sem(values))
        cases.append(dict(values=list(values), confidence=confidence, interval=[low, high]))
    return cases


def mcnemar():
    cases = []
    for _ in range(CASES):
        first, second = (int(v) for v in random.integers(0, 60, 2))
        p = stats.binomtest(first, first + second, 0.5).pvalue if first + second else 1.0
        cases.append(dict(first=first, second=second, p=p))
    return cases


def permutations():
    cases = []
    for i in range(CASES):
        # Whole numbers tie often.
        draw = (lambda n: random.integers(0, 5, n).astype(float)) if i % 2 else random.normal
        first = draw(size=int(random.integers(2, 6))) if i % 2 == 0 else draw(int(random.integers(2, 6)))
        second = draw(size=int(random.integers(2, 6))) if i % 2 == 0 else draw(int(random.integers(2, 6)))
        second = second + 0.7 * (i % 3)
        found = stats.permutation_test((first, second), lambda x, y: np.mean(x) - np.mean(y),
                                       permutation_type="independent", n_resamples=np.inf)
        pairs = random.normal(0.5 * (i % 3), 1, int(random.integers(2, 11)))
        flipped = stats.permutation_test((pairs,), np.sum, permutation_type="samples", vectorized=False,
                                         n_resamples=np.inf)
        cases.append(dict(first=list(first), second=list(second), p=found.pvalue, pairs=list(pairs),
                          p_pairs=flipped.pvalue))
    return cases


def holm():
    """By the closure principle: a hypothesis falls when every intersection with it does."""
    cases = []
    for _ in range(CASES):
        p = random.uniform(0, 0.1, int(random.integers(1, 7)))
        adjusted = []
        for i in range(len(p)):
            others = [j for j in range(len(p)) if j != i]
            worst = 0.0
            for size in range(len(others) + 1):
                for rest in itertools.combinations(others, size):
                    family = [i, *rest]
                    worst = max(worst, min(1.0, len(family) * min(p[j] for j in family)))
            adjusted.append(worst)
        cases.append(dict(p=list(p), adjusted=adjusted))
    return cases


def isotonic():
    """max over j <= i of min over k >= i of the weighted mean of j..k."""
    cases = []
    for _ in range(CASES):
        n = int(random.integers(1, 15))
        y, w = np.linspace(0, 1, n) + random.normal(0, 0.4, n), random.uniform(0.2, 3, n)
        mean = lambda j, k: float(np.average(y[j:k + 1], weights=w[j:k + 1]))
        fit = [max(min(mean(j, k) for k in range(i, n)) for j in range(i + 1)) for i in range(n)]
        cases.append(dict(values=list(y), weights=list(w), fit=fit))
    return cases


def pass_at_k():
    """Every subset of k samples, counted."""
    cases = []
    for _ in range(CASES):
        n = int(random.integers(1, 13))
        c, k = int(random.integers(0, n + 1)), int(random.integers(1, n + 1))
        subsets = list(itertools.combinations(range(n), k))
        hits = sum(any(i < c for i in subset) for subset in subsets)
        cases.append(dict(samples=n, correct=c, k=k, value=hits / len(subsets)))
    return cases


def beta_binomial_loss(means, correlation, k, n):
    total = 1 / correlation - 1
    means = np.clip(means, 1e-6, 1 - 1e-6)
    return -stats.betabinom.logpmf(k, n, means * total, (1 - means) * total).sum()


def best(function, bounds, starts):
    bounds = np.array(bounds, float)
    found = []
    for start in starts:
        found.append(optimize.minimize(function, np.clip(start, bounds[:, 0], bounds[:, 1]),
                                       method="Nelder-Mead", bounds=bounds,
                                       options=dict(xatol=1e-9, fatol=1e-10, maxiter=6000,
                                                    maxfev=6000)))
    return min(found, key=lambda one: one.fun)


def thresholds():
    cases = []
    for i in range(CASES):
        sizes = np.geomspace(600, 100000, int(random.integers(6, 10)))
        seeds = int(random.integers(2, 6))
        chance = float(random.choice([0, 0.1, 0.5]))
        n50, width, n = 10 ** random.uniform(3.2, 4.6), 10 ** random.uniform(-0.6, 0.3), 500
        truth = chance + (0.98 - chance) / (1 + (n50 / sizes) ** (math.log10(81) / width))
        p = np.repeat(np.clip(truth, 1e-3, 1 - 1e-3), seeds)
        spread = 1 / 0.02 - 1
        k = random.binomial(n, random.beta(p * spread, (1 - p) * spread))
        x = np.repeat(np.log10(sizes), seeds)
        low, high = x[0], x[-1]

        def curve(v):
            exponent = np.clip(math.log10(81) / 10 ** v[1] * (v[0] - x), -300, 300)
            return beta_binomial_loss(chance + (v[2] - chance) / (1 + 10.0 ** exponent), 10 ** v[3], k, n)

        fit = best(curve, [(low - 1, high + 1), (math.log10(0.02), math.log10(20)),
                           (chance + 0.02 * (1 - chance), 1 - 1e-6), (-6, -0.05)],
                   [(c, w, 0.95, r) for c in np.linspace(low, high, 6) for w in (-0.7, 0) for r in (-3, -1.5)])
        flat = best(lambda v: beta_binomial_loss(np.full(len(x), v[0]), 10 ** v[1], k, n),
                    [(1e-6, 1 - 1e-6), (-6, -0.05)],
                    [(p, r) for p in (0.1, 0.5, 0.9) for r in (-0.1, -0.5, -1, -3)])
        line = best(lambda v: beta_binomial_loss(v[0] + (v[1] - v[0]) * (x - low) / (high - low),
                                                 10 ** v[2], k, n),
                    [(1e-6, 1 - 1e-6)] * 2 + [(-6, -0.05)],
                    [(a, b, r) for a, b in ((0.2, 0.8), (0.5, 0.5)) for r in (-3, -1)])
        cells = len(x)
        aicc = lambda loss, m: 2 * m + 2 * loss + 2 * m * (m + 1) / (cells - m - 1)
        cases.append(dict(sizes=list(10 ** x), successes=[int(v) for v in k], trials=n, chance=chance,
                          size50=10 ** fit.x[0], width=10 ** fit.x[1], ceiling=fit.x[2],
                          log_likelihood=-fit.fun, aicc=aicc(fit.fun, 4),
                          aicc_constant=aicc(flat.fun, 2), aicc_linear=aicc(line.fun, 3)))
    return cases


def huber(residual, delta=1e-3):
    r = np.abs(residual) / delta
    return np.where(r <= 1, r * r / 2, r - 0.5).sum()


def scaling_laws():
    cases = []
    for _ in range(CASES):
        floor, alpha, beta = random.uniform(0.5, 2), random.uniform(0.25, 0.6), random.uniform(0.25, 0.6)
        n, d = (v.ravel() for v in np.meshgrid(np.geomspace(2e3, 1e6, 6), np.geomspace(2e5, 4e7, 5)))
        loss = floor + 1.5 * (n / 2e3) ** -alpha + 1.2 * (d / 2e5) ** -beta
        loss = loss * np.exp(random.normal(0, 0.003, len(loss)))
        logs = np.log(loss)
        x, y = np.log(n) - np.log(n).mean(), np.log(d) - np.log(d).mean()

        def objective(v):
            return huber(special.logsumexp([np.full(len(x), v[0]), v[1] - v[2] * x, v[3] - v[4] * y],
                                           axis=0) - logs)

        found = []
        for start in itertools.product((-0.5, 0.5), (-1, 0), (0.3, 0.6), (-1, 0), (0.3, 0.6)):
            one = optimize.minimize(objective, start, method="L-BFGS-B", options=dict(maxiter=5000))
            found.append(one)
        one = min(found, key=lambda r: r.fun)
        for _ in range(3):
            one = optimize.minimize(objective, one.x, method="Nelder-Mead",
                                    options=dict(xatol=1e-10, fatol=1e-10, maxiter=20000, maxfev=20000))
        cases.append(dict(parameters=list(n), tokens=list(d), loss=list(loss), objective=one.fun,
                          floor=math.exp(one.x[0]), alpha=one.x[2], beta=one.x[4]))
    return cases


def plain(value):
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value.item() if isinstance(value, np.generic) else value


if __name__ == "__main__":
    makers = [proportions, distributions, seed_means, mcnemar, permutations, holm, isotonic, pass_at_k,
              thresholds, scaling_laws]
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "statistics.json")
    with open(path, "w") as file:
        file.write("{\n")
        for i, maker in enumerate(makers):
            cases = ",\n".join(json.dumps(plain(case)) for case in maker())
            file.write(f'"{maker.__name__}": [\n{cases}\n]' + (",\n" if i + 1 < len(makers) else "\n"))
        file.write("}\n")
