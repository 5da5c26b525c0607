#!/usr/bin/env bash
# Pins every dependency with hashes for Python 3.11-3.13 in files that name no index.
set -euo pipefail
cd "$(dirname "$0")/.."
UV="${1:-.venv}/bin/uv"
compile() {
    "$UV" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
        --custom-compile-command "make lock" "${@:2}" --output-file "requirements/$1.txt" pyproject.toml
}
compile base
compile dev --extra dev --no-emit-package algorithm-nexus
