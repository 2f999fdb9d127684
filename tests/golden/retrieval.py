#!/usr/bin/env python3
"""Holds `surtsey index` against references on 1,000 queries.

    tests/golden/retrieval.py MODEL [--text FILE] [--queries N]     (Debian: python3-numpy)

MODEL makes the vectors (a folder of Hugging Face's form, or a run of `surtsey train`). FILE is cut into documents at
empty lines (tinyshakespeare, say); queries are words drawn from them. BM25: a table of Python's own SQLite over the same
texts, asked by an expression made here; ids and scores must agree. Vectors: those of the index file, and those of the
queries (indexed as documents), multiplied in float64 by NumPy; ids must agree wherever scores are further apart than
rounding. Prints what was compared; ends 1 where something differs.
"""
import argparse
import json
import pathlib
import random
import re
import sqlite3
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = ROOT / "build" / "surtsey"
TOP = 10
ROUNDING = 2e-6  # of a product of unit vectors in float32


def surtsey(*arguments):
    done = subprocess.run([TOOL, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def write_rows(path, rows):
    with open(path, "w") as file:
        for id, text in rows:
            file.write(json.dumps({"id": id, "text": text}) + "\n")


def ask(index, queries, by):
    lines = surtsey("index", "query", index, "--queries", queries, "--by", by, "--top", TOP, "-o", "json").splitlines()
    return [json.loads(line)["passages"] for line in lines]


def vectors_of(index):
    rows = sqlite3.connect(index).execute(
        "SELECT id, vector FROM passages JOIN documents ON documents.number = document ORDER BY id, part").fetchall()
    return [id for id, _ in rows], np.array([np.frombuffer(vector, "<f4") for _, vector in rows], dtype=np.float64)


def compare_words(documents, queries, found):
    table = sqlite3.connect(":memory:")
    table.execute("CREATE VIRTUAL TABLE reference USING fts5(id UNINDEXED, title, text)")
    table.executemany("INSERT INTO reference VALUES(?, '', ?)", documents)
    differing, worst = 0, 0.0
    for query, passages in zip(queries, found):
        words = dict.fromkeys(re.findall(r"[^\W_]+", query))
        expected = table.execute(
            "SELECT id, -bm25(reference) FROM reference WHERE reference MATCH ? ORDER BY bm25(reference), id LIMIT ?",
            (" OR ".join(f'"{word}"' for word in words), TOP)).fetchall()
        worst = max([worst] + [abs(passage["score"] - score) for passage, (_, score) in zip(passages, expected)])
        differing += [passage["id"] for passage in passages] != [id for id, _ in expected]
    print(f"bm25: {len(queries)} queries, {differing} with other ids, scores within {worst:.2g}")
    return differing == 0 and worst < 1e-9


def compare_vectors(ids, vectors, queries, found):
    scores = queries @ vectors.T
    place = {id: i for i, id in enumerate(ids)}
    differing, exchanged, worst = 0, 0, 0.0
    for row, passages in zip(scores, found):
        order = np.lexsort((np.arange(len(ids)), -row))[:TOP]
        got = [place[passage["id"]] for passage in passages]
        worst = max(worst, max(abs(passage["cosine"] - row[i]) for passage, i in zip(passages, got)))
        if got == list(order):
            continue
        # In another order by no more than rounding.
        if len(set(got)) == TOP and np.all(np.abs(row[got] - row[order]) < ROUNDING):
            exchanged += 1
        else:
            differing += 1
    print(f"dense: {len(found)} queries, {differing} with other ids, {exchanged} that exchange scores closer than "
          f"{ROUNDING}, scores within {worst:.2g}")
    return differing == 0 and worst < ROUNDING


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--text", default=ROOT.parent / "shared" / "data" / "tinyshakespeare" / "input.txt")
    parser.add_argument("--queries", type=int, default=1000)
    arguments = parser.parse_args()
    draws = random.Random(1)
    texts = [part.strip() for part in pathlib.Path(arguments.text).read_text().split("\n\n")]
    # Short enough to be one passage, and no text twice: what is equal is told apart by id in the tests.
    texts = list(dict.fromkeys(text for text in texts if 20 <= len(text) <= 240))[:4000]
    documents = [(f"{i:05}", text) for i, text in enumerate(texts)]
    queries = []
    while len(queries) < arguments.queries:
        words = " ".join(draws.sample(draws.choice(texts).split(), 3))
        if re.search(r"\w", words):
            queries.append(words)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_rows(folder / "documents.jsonl", documents)
        write_rows(folder / "asked.jsonl", [(f"{i:05}", query) for i, query in enumerate(queries)])
        (folder / "queries.txt").write_text("\n".join(queries) + "\n")
        for name in ("documents", "asked"):
            surtsey("index", "build", "--out", folder / name, "--data", folder / f"{name}.jsonl",
                    "--model", arguments.model)
        print(surtsey("index", "info", folder / "documents"), end="")
        ids, vectors = vectors_of(folder / "documents")
        _, asked = vectors_of(folder / "asked")
        good = compare_words(documents, queries, ask(folder / "documents", folder / "queries.txt", "bm25"))
        good = compare_vectors(ids, vectors, asked, ask(folder / "documents", folder / "queries.txt", "dense")) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
