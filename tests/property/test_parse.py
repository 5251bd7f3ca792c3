#!/usr/bin/python3
"""Random expressions through Dray's parser and through Python's: the same trees.

usage: test_parse.py PARSE_CASES [--seed N] [--cases N]
"""
import argparse
import ast
import random
import subprocess
import sys

BINARY = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**", ast.MatMult: "@",
          ast.LShift: "<<", ast.RShift: ">>", ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^"}
UNARY = {ast.USub: "-", ast.UAdd: "+", ast.Invert: "~"}
COMPARE = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}


class Refused(Exception):
    """Python takes it and Dray does not, on purpose."""


def show(node):
    kind = type(node)
    if kind is ast.Constant:
        return f'"{node.value}"' if isinstance(node.value, str) else repr(node.value)
    if kind is ast.Name:
        return node.id
    if kind is ast.BinOp:
        return f"({show(node.left)} {BINARY[type(node.op)]} {show(node.right)})"
    if kind is ast.UnaryOp:
        return f"({UNARY[type(node.op)]}{show(node.operand)})"
    if kind is ast.Compare:
        if len(node.ops) > 1:
            raise Refused
        return f"({show(node.left)} {COMPARE[type(node.ops[0])]} {show(node.comparators[0])})"
    if kind is ast.Attribute:
        return f"{show(node.value)}.{node.attr}"
    if kind is ast.Subscript:
        return f"{show(node.value)}[{show(node.slice)}]"
    if kind is ast.Call:
        if any(k.arg is None for k in node.keywords):
            raise Refused
        args = [show(a) for a in node.args] + [f"{k.arg}={show(k.value)}" for k in node.keywords]
        return f"{show(node.func)}({', '.join(args)})"
    if kind is ast.List:
        return "[" + ", ".join(map(show, node.elts)) + "]"
    if kind is ast.Tuple:
        return "(" + ", ".join(map(show, node.elts)) + (",)" if len(node.elts) == 1 else ")")
    if kind is ast.Dict:
        return "{" + ", ".join(f"{show(k)}: {show(v)}" for k, v in zip(node.keys, node.values)) + "}"
    raise Refused


def expression(rng, depth=0):
    roll = rng.random()
    if depth > 4 or roll < 0.2:
        return rng.choice(["x", "df", "1", "2.5", "0x1f", "1_000", "'s'", "True", "None", "1e-3", '"a" \'b\''])
    below = lambda: expression(rng, depth + 1)  # noqa: E731
    space = rng.choice(["", " "])
    if roll < 0.6:
        op = rng.choice(list(BINARY.values()) + list(COMPARE.values()) * 2 + ["**", "**"])
        return f"{below()}{space}{op}{space}{below()}"
    if roll < 0.7:
        return rng.choice("-+~") + space + below()
    if roll < 0.8:
        return f"({below()})"
    if roll < 0.84:
        return f"{rng.choice(['x', 'df', '(x)'])}.{rng.choice(['y', 'count'])}"
    if roll < 0.88:
        return f"df[{below()}]"
    if roll < 0.92:
        return f"f({below()}, k={below()})"
    if roll < 0.94:
        return f"[{below()}, {below()},]"
    if roll < 0.96:
        return f"({below()},)"
    if roll < 0.98:
        return f"{{'k': {below()}}}"
    # Damage: most of these are refused by both.
    text = below()
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice("()[]+*,.=<&") + text[at:]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=20000)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    texts = [expression(rng) for _ in range(args.cases)]
    done = subprocess.run([args.program], input="".join(t + "\n" for t in texts), capture_output=True, text=True)
    answers = done.stdout.split("\n")[:-1]
    if done.returncode != 0 or len(answers) != len(texts):
        print(f"the program ended with {done.returncode} after {len(answers)} of {len(texts)} lines\n{done.stderr[-2000:]}")
        sys.exit(1)
    failures = refused = 0
    for text, answer in zip(texts, answers):
        try:
            tree = ast.parse(text, mode="eval").body
            if isinstance(tree, ast.Tuple) and tree.elts and (text.endswith(",") or tree.col_offset == tree.elts[0].col_offset):
                raise Refused  # a tuple without brackets
            expected = show(tree)
        except Refused:
            refused += 1
            continue
        except (SyntaxError, ValueError):
            expected = "error"
        # What Python warns of (a number called, an attribute of a number) is no matter here.
        if answer != expected:
            failures += 1
            if failures <= 10:
                print(f"{text}\n  Python: {expected}\n  Dray:   {answer}")
    print(f"{len(texts)} expressions, {refused} left out, {failures} that differ")
    sys.exit(1 if failures else 0)


main()
