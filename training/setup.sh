#!/bin/bash
# The Python environment for training: the reference environment of the tests, plus accelerate. Run once.
set -e
HERE=$(dirname "$(readlink -f "$0")"); ENV=${TABREEL_REFENV:-$HOME/.cache/tabreel/refenv}
[ -x "$ENV/bin/python" ] || bash "$HERE/../tests/reference/setup_refenv.sh" "$ENV"
"$ENV/bin/pip" install -q --no-deps -r "$HERE/requirements.txt"   # no dependencies: accelerate's would pull 3 GB of CUDA
