#!/usr/bin/env bash
# Write requirements/cpu.lock anew from pyproject.toml (extras cpu and dev), with hashes, and of it gateway.lock
# (no extras). What is locked already keeps
# its version if it can; arguments go to uv: --upgrade, --upgrade-package NAME.
#
# Left out on purpose: torchvision, torchaudio and torchcodec. vLLM's CPU build names them, but the package
# index only has their CUDA builds, with which `from vllm import AsyncEngineArgs` crashes; nothing here uses
# them. torch itself is installed first, by install.sh, because its CPU build is not on the package index.
set -eu
cd "$(dirname "$0")/.."
tool=$(mktemp -d)
trap 'rm -rf "$tool"' EXIT
python3 -m venv "$tool"
"$tool/bin/pip" install --quiet uv
links=$("$tool/bin/pip" config get global.find-links 2>/dev/null || true)
if [ -n "$links" ]; then source=(--find-links "$links"); else source=(--torch-backend cpu); fi
sed 's/^# torch: //' requirements/cpu.lock | tee "$tool/torch.lock" >"$tool/cpu.lock"  # uv keeps what its output has
"$tool/bin/uv" pip compile pyproject.toml --extra cpu --extra dev --python-version 3.11 --generate-hashes \
    --no-header --no-annotate --system-certs "${source[@]}" \
    --no-emit-package torch --no-emit-package torchvision --no-emit-package torchaudio --no-emit-package torchcodec \
    --quiet --output-file "$tool/cpu.lock" "$@"
"$tool/bin/uv" pip compile pyproject.toml --extra cpu --python-version 3.11 --no-header --no-annotate \
    --system-certs "${source[@]}" --quiet --output-file "$tool/torch.lock" "$@"
torch=$(grep '^torch==' "$tool/torch.lock")
{
    echo "# Written by \`make lock\` from pyproject.toml; do not edit."
    echo "# torch: $torch"
    grep -v '^#' "$tool/cpu.lock"
} >requirements/cpu.lock
echo "requirements/cpu.lock: $(grep -c '==' requirements/cpu.lock) packages and $torch"
{
    echo "# Written by \`make lock\` from pyproject.toml without extras, with cpu.lock's versions; do not edit."
    "$tool/bin/uv" pip compile pyproject.toml --python-version 3.11 --generate-hashes --no-header --no-annotate \
        --system-certs --quiet --constraint requirements/cpu.lock
} >"$tool/gateway.lock"
mv "$tool/gateway.lock" requirements/gateway.lock
echo "requirements/gateway.lock: $(grep -c '==' requirements/gateway.lock) packages"
