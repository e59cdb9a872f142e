"""Plants duplicates, passages and evaluation items into real text and counts what is found, and how fast.

    python scripts/bench/dedup_planted.py --data FOLDER [--copies 4] [--parts near,...] [--ngrams 4,5] [--json FILE]

FOLDER holds books-train.jsonl, gsm8k-test.jsonl and core/*.jsonl. To have more text than the books, each further copy
of them is written in another cipher of its letters: the same lengths and repetitions, other words. What is true is
decided by a second measure of our own words: sets of runs of `re` words, in Python. MB/s are of processor time, one
process.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import string
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

WORD = re.compile(r"[^\W_]+")
EDITS = {"edit 1 %": 0.01, "edit 3 %": 0.03, "edit 6 %": 0.06}


def words_of(text: str) -> list[str]:
    return WORD.findall(text.lower())


def true_jaccard(first: str, second: str, size: int = 5) -> float:
    def runs(text: str) -> set[tuple[str, ...]]:
        words = words_of(text)
        return {tuple(words[start : start + size]) for start in range(max(1, len(words) - size + 1))}

    one, two = runs(first), runs(second)
    return len(one & two) / len(one | two)


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def ciphered(text: str, number: int) -> str:
    letters = list(string.ascii_lowercase)
    random.Random(number).shuffle(letters)
    low = "".join(letters)
    return text.translate(str.maketrans(string.ascii_letters, low + low.upper())) if number else text


def edited(text: str, share: float, chance: random.Random, vocabulary: list[str]) -> str:
    pieces = re.split(r"(\s+)", text)
    places = [number for number in range(0, len(pieces), 2) if pieces[number]]
    for number in chance.sample(places, max(1, round(share * len(places)))):
        pieces[number] = chance.choice(vocabulary)
    return "".join(pieces)


def planted(text: str, kind: str, chance: random.Random, vocabulary: list[str]) -> str:
    if kind in EDITS:
        return edited(text, EDITS[kind], chance, vocabulary)
    if kind == "case and spacing":
        return "\n ".join(text.upper().split(" "))
    if kind == "added header":
        return " ".join(chance.choices(vocabulary, k=40)) + "\n\n" + text
    if kind == "dropped paragraph":
        parts = text.split("\n\n")
        del parts[chance.randrange(len(parts))]
        return "\n\n".join(parts)
    return text


def timed(size: int, work: Callable[[], object]) -> tuple[object, float]:
    start = time.process_time()
    result = work()
    return result, size / (time.process_time() - start) / 1e6


def bench_near(texts: list[str], facts: dict[str, object]) -> None:
    from llmforge.cleaning.dedup.exact import exact_key, find_exact_duplicates
    from llmforge.cleaning.dedup.near import NearSettings, find_near_duplicates, signatures

    chance = random.Random(1)
    vocabulary = sorted(set(words_of(" ".join(texts[:200]))))
    kinds = ["exact", *EDITS, "case and spacing", "added header", "dropped paragraph"]
    pairs = []
    all_texts = list(texts)
    for number in chance.sample(range(len(texts)), len(texts) // 10):
        kind = kinds[len(pairs) % len(kinds)]
        pairs.append((kind, number, len(all_texts)))
        all_texts.append(planted(texts[number], kind, chance, vocabulary))
    size = sum(len(text.encode()) for text in all_texts)
    chosen = NearSettings()
    sizes = [len(text.encode()) for text in all_texts]

    def signed() -> object:
        return np.concatenate([signatures(all_texts[at : at + 80], chosen) for at in range(0, len(all_texts), 80)])

    _, key_rate = timed(size, lambda: [exact_key(text) for text in all_texts])
    found, sign_rate = timed(size, signed)
    dropped, find_rate = timed(size, lambda: find_near_duplicates(found, sizes, all_texts.__getitem__, chosen))
    both = 1 / (1 / sign_rate + 1 / find_rate)
    print(f"near: {len(all_texts):,} documents, {size / 1e6:.0f} MB, {len(pairs):,} planted")
    print(f"  MB/s: keys {key_rate:.0f}, signatures {sign_rate:.1f}, finding {find_rate:.0f}, the two {both:.1f}")
    true = found_of_true = 0
    table = {}
    for kind in kinds:
        own = [(original, copy) for name, original, copy in pairs if name == kind]
        similar = [pair for pair in own if true_jaccard(all_texts[pair[0]], all_texts[pair[1]]) >= chosen.threshold]
        hit = sum(original in dropped or copy in dropped for original, copy in similar)
        table[kind] = {"planted": len(own), "similar": len(similar), "found": hit}
        true, found_of_true = true + len(similar), found_of_true + hit
        print(f"  {kind:20s} planted {len(own):5d}  similar {len(similar):5d}  found {hit:5d}")
    right = sum(
        true_jaccard(all_texts[number], all_texts[match.kept]) >= chosen.threshold for number, match in dropped.items()
    )
    print(f"  recall {found_of_true / true:.4f}, precision {right / len(dropped):.4f} ({right} of {len(dropped)})")
    keys = np.frombuffer(b"".join(map(exact_key, all_texts)), dtype=np.uint8).reshape(-1, 16)
    kept = find_exact_duplicates(keys, sizes)
    wanted = [pair for pair in pairs if pair[0] == "exact"]
    exact = sum(kept[copy] == kept[original] for _, original, copy in wanted)
    repeats = int((kept != np.arange(len(kept))).sum())
    print(f"  exact keys: {exact} of {len(wanted)} exact copies, {repeats} repeats in all")
    facts["near"] = {"table": table, "recall": found_of_true / true, "precision": right / len(dropped), "mb_s": both}


def bench_substring(texts: list[str], facts: dict[str, object]) -> None:
    from llmforge.cleaning.dedup.anchors import ANCHOR, SubstringSettings, anchors
    from llmforge.cleaning.dedup.substring import find_repeated_passages

    chance = random.Random(2)
    chosen = SubstringSettings()
    all_texts = list(texts)
    plants = []
    half = len(texts) // 2
    for number in chance.sample(range(half, len(texts)), len(texts) // 20):
        source = chance.randrange(half)
        given = texts[source].split(" ")
        length = chance.choice([60, 80, 150])
        start = chance.randrange(max(1, len(given) - length))
        passage = " ".join(given[start : start + length])
        at = all_texts[number].find(" ", chance.randrange(len(all_texts[number]))) + 1
        all_texts[number] = f"{all_texts[number][:at]}{passage} {all_texts[number][at:]}"
        plants.append((number, at, at + len(passage), passage))
    size = sum(len(text.encode()) for text in all_texts)
    found, anchor_rate = timed(size, lambda: [anchors(text, chosen) for text in all_texts])
    flat = np.concatenate([*found, np.empty(0, dtype=ANCHOR)])
    counts = [len(one) for one in found]
    stay = np.ones(len(all_texts), dtype=bool)
    repeated, find_rate = timed(size, lambda: find_repeated_passages(flat, counts, stay, all_texts.__getitem__, chosen))
    long = [plant for plant in plants if len(words_of(plant[3])) >= chosen.min_words]
    hits = sum(
        any(cut[0] <= begin + 12 and cut[1] >= end - 12 for cut in repeated[number].cut) or repeated[number].drop
        for number, begin, end, _ in long
        if number in repeated
    )
    wrong = passages = 0
    for number, one in repeated.items():
        for passage in one.passages:
            passages += 1
            mine = words_of(all_texts[number][passage.begin : passage.end])
            theirs = words_of(all_texts[passage.earlier][passage.earlier_begin : passage.earlier_end])
            wrong += mine != theirs or len(mine) < chosen.min_words
    both = 1 / (1 / anchor_rate + 1 / find_rate)
    print(f"substring: {size / 1e6:.0f} MB, {len(long)} planted, {len(flat) * 12 / size:.3f} bytes of anchors a byte")
    print(f"  MB/s: anchors {anchor_rate:.1f}, finding {find_rate:.0f}, the two {both:.1f}")
    print(
        f"  found whole {hits} of {len(long)}; {passages} passages in {len(repeated)} documents, {wrong} not the same"
    )
    facts["substring"] = {"planted": len(long), "found": hits, "passages": passages, "wrong": wrong, "mb_s": both}


def bench_decontaminate(texts: list[str], data: Path, ngrams: list[int], facts: dict[str, object]) -> None:
    from llmforge.cleaning.decontaminate.items import build_index
    from llmforge.cleaning.decontaminate.match import Decontaminate
    from llmforge.cleaning.decontaminate.settings import DecontaminateSettings

    chance = random.Random(3)
    vocabulary = sorted(set(words_of(" ".join(texts[:200]))))
    clean = texts[:3600]
    items = rows(data / "gsm8k-test.jsonl")
    kinds: dict[str, Callable[[str], str]] = {
        "verbatim": lambda text: text,
        "other case": lambda text: text.swapcase(),
        "one word changed": lambda text: edited(text, 0, chance, vocabulary),
        "10 % changed": lambda text: edited(text, 0.1, chance, vocabulary),
    }
    plants = []
    for kind, change in kinds.items():
        for number in chance.sample(range(len(items)), 400):
            host = clean[chance.randrange(len(clean))]
            at = host.find(" ", chance.randrange(len(host) - 100)) + 1
            plants.append((kind, number, f"{host[:at]}{change(items[number]['question'])} {host[at:]}"))
    size = sum(len(text.encode()) for text in clean)
    gsm8k = str(data / "gsm8k-test.jsonl")
    sets = {"gsm8k": [gsm8k], "gsm8k + core": [gsm8k, str(data / "core")]}
    for name, against in sets.items():
        for ngram in ngrams:
            chosen = DecontaminateSettings(against=against, ngram=ngram)
            index = build_index(chosen)
            step = Decontaminate(index, chosen)
            hits, rate = timed(size, lambda step=step: [step(text) for text in clean])
            false = [(number, hit) for number, one in enumerate(hits) for hit in one]
            documents = len({number for number, _ in false})
            print(
                f"decontaminate {name}, n = {ngram}: {index.items:,} items, {len(index.owners):,} parts, "
                f"{len(index.untold):,} too short; {rate:.1f} MB/s; hits in {documents} of {len(clean)} clean"
            )
            for number, hit in false[:3]:
                print(f"    {number} {hit.items[0]} {hit.share:.2f} {hit.text[:90]!r}")
            table = {}
            for kind in kinds:
                own = [(number, text) for label, number, text in plants if label == kind]
                got = sum(
                    any(f"gsm8k-test.jsonl:{number + 1}" in item for hit in step(text) for item in hit.items)
                    for number, text in own
                )
                table[kind] = got / len(own)
            print("    found", ", ".join(f"{kind} {share:.4f}" for kind, share in table.items()))
            facts[f"decontaminate {name} n={ngram}"] = {"found": table, "clean_hit": documents, "mb_s": rate}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--parts", default="near,substring,decontaminate")
    parser.add_argument("--ngrams", default="5")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    books = [row["text"] for row in rows(given.data / "books-train.jsonl")]
    texts = [ciphered(text, number) for number in range(given.copies) for text in books]
    facts: dict[str, object] = {}
    parts = given.parts.split(",")
    if "near" in parts:
        bench_near(texts, facts)
    if "substring" in parts:
        bench_substring(texts, facts)
    if "decontaminate" in parts:
        bench_decontaminate(books, given.data, [int(size) for size in given.ngrams.split(",")], facts)
    if given.json:
        given.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
