#!/usr/bin/env bash
# Builds the Python client's wheel into a folder, and installs it where the tests run: `wheel.sh FOLDER`.
set -euo pipefail
repository=$(cd "$(dirname "$0")/../.." && pwd)
pip=("$repository/tests/.venv-clients/bin/pip" --quiet --disable-pip-version-check)
rm -rf "$1"
"${pip[@]}" wheel --no-deps --no-build-isolation --wheel-dir "$1" "$repository/clients/python"
"${pip[@]}" install --no-deps --force-reinstall "$1"/cloudpose-*.whl
