"""Writes the texts that pages carry as one C++ file: a table of name and text (pages/texts.h).

usage: embed.py OUTPUT FILE... --names NAME...
"""

import sys

DELIMITER = "surtsey_text"
PIECE = 12000  # compilers limit the length of one literal; neighbours are joined


def literal(text):
    if f"){DELIMITER}" in text:
        raise SystemExit(f"embed.py: a text holds the delimiter {DELIMITER}")
    pieces = [text[at : at + PIECE] for at in range(0, len(text), PIECE)] or [""]
    return "\n".join(f'R"{DELIMITER}({piece}){DELIMITER}"' for piece in pieces)


def main(arguments):
    split = arguments.index("--names")
    output, files, names = arguments[0], arguments[1:split], arguments[split + 1 :]
    if len(files) != len(names):
        raise SystemExit(f"embed.py: {len(files)} files, {len(names)} names")
    lines = [
        '#include "experiments/report/pages/texts.h"',
        "",
        "namespace surtsey::experiments {",
        "",
        "std::string_view page_text(std::string_view name) {",
    ]
    for name, path in zip(names, files):
        with open(path, encoding="utf-8") as file:
            lines.append(f'  if (name == "{name}") return {literal(file.read())};')
    lines += ["  return {};", "}", "", "}  // namespace surtsey::experiments", ""]
    with open(output, "w", encoding="utf-8") as file:
        file.write("\n".join(lines))


main(sys.argv[1:])
