#!/usr/bin/env bash
# Build targets of docker/Dockerfile with the engine that is there: tools/build_image.sh TARGET…
# pip's configuration of this machine is used while packages are installed, and is not in the image; folders that it
# names are mounted, which docker cannot do.
set -eu
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
secret=$(mktemp)
trap 'rm -f "$secret"' EXIT

pip_settings() {
    echo "[global]"
    python3 -m pip config list 2>/dev/null |
        sed -nE "s/^(global|:env:)\.(index-url|extra-index-url|find-links|cert)='(.*)'$/\2 = \3/p" | sort -u -t= -k1,1
}
pip_settings >"$secret"

if docker info >/dev/null 2>&1; then
    build=(docker build)
elif command -v podman >/dev/null && podman info >/dev/null 2>&1; then
    build=(podman build)
elif command -v buildah >/dev/null; then  # chroot: works without user namespaces, too
    build=(buildah bud --isolation chroot --network host --ulimit nofile=1024:1024 --layers --format docker)  # OCI's knows no health checks
else
    echo "image: no engine for containers found; install docker, podman or buildah" >&2
    exit 3
fi
if [ "${build[0]}" != docker ]; then
    for path in $(sed -n 's/.*= //p' "$secret" | tr ' ' '\n' | sed 's,^file://,,' | grep '^/' | sort -u); do
        while [ "$path" != / ] && [ ! -e "$path" ]; do path=$(dirname "$path"); done
        case $path in */simple) path=$(dirname "$path") ;; esac  # the index links to files beside it
        if [ "$path" != / ]; then build+=(--volume "$path:$path:ro"); fi
    done
fi
for target in "$@"; do
    echo "image: ${build[0]} builds $target…"
    "${build[@]}" --file docker/Dockerfile --target "$target" --secret "id=pip,src=$secret" \
        --label "org.opencontainers.image.title=vita-duplex" --label "org.opencontainers.image.version=$version" \
        --label "org.opencontainers.image.licenses=Apache-2.0" \
        ${IMAGE_ARGS:-} --tag "vita-duplex:$target" --tag "vita-duplex:$version-$target" .
done
