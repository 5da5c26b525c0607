#!/usr/bin/env bash
# Builds the checkout's virtual environment from the pinned requirements. Needs Python >= 3.11 and a package index.
set -euo pipefail
cd "$(dirname "$0")/.."
VENV="${1:-.venv}"

python=""
for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python="$candidate"
        break
    fi
done
if [ -z "$python" ]; then
    echo "error: no Python 3.11 or newer found on PATH" >&2
    echo "hint: install one, or name it: make setup PYTHON=/path/to/python3.12" >&2
    exit 2
fi

export UV_PYTHON_DOWNLOADS=never
if [ ! -x "$VENV/bin/python" ]; then
    echo "setting up $VENV with $("$python" --version)" >&2
    if ! "$python" -m venv "$VENV" 2>/dev/null; then
        rm -rf "$VENV"
        if command -v uv >/dev/null 2>&1; then
            uv venv --quiet --seed --python "$python" "$VENV"
        else
            echo "error: this Python cannot make virtual environments" >&2
            echo "hint: on Debian and Ubuntu: apt-get install python3-venv" >&2
            exit 2
        fi
    fi
fi
if [ ! -x "$VENV/bin/uv" ]; then
    awk '/^uv==/ { found = 1; print; next } found && /^    --hash/ { print; next } found { exit }' requirements/dev.txt >"$VENV/uv.txt"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$VENV/uv.txt"
fi
export VIRTUAL_ENV="$PWD/$VENV"
"$VENV/bin/uv" pip sync --quiet --require-hashes requirements/dev.txt
"$VENV/bin/uv" pip install --quiet --no-deps --no-build-isolation --editable .
touch "$VENV/.ready"
