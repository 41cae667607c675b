#!/usr/bin/env bash
# Makes .venv: the package in editable form with every extra, in the versions of constraints.txt.
# Called by `make venv`, which skips it when nothing has changed. PYTHON=/path/to/python chooses the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=.venv
say() { printf 'venv: %s\n' "$*"; }
die() { printf 'venv: %s\n' "$@" >&2; exit 1; }

fits() { "$1" -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' 2>/dev/null; }
python=
for p in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3; do
    if command -v "$p" >/dev/null && fits "$p"; then python=$p; break; fi
done
[ -n "$python" ] || die "found no Python 3.11 or later; install one, or say PYTHON=/path/to/python" \
    "on Debian or Ubuntu: apt-get install python3 python3-venv"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
"$python" -c 'import ensurepip, venv' 2>/dev/null || die "$python cannot make virtual environments: its ensurepip is missing" \
    "on Debian or Ubuntu: apt-get install python$version-venv"

if [ -x $venv/bin/python ] && ! fits $venv/bin/python; then say "$venv is broken or of another Python: making it anew"; rm -rf $venv; fi
if [ ! -x $venv/bin/pip ]; then say "Python $version -> $venv"; "$python" -m venv $venv; fi

# every extra that settings.ini knows
extras=$(sed -n 's/^\([a-z]*\)_requirements *=.*/\1/p' settings.ini | paste -sd,)
if ! $venv/bin/python -c 'import sys; sys.exit(sys.version_info[:2] > (3, 12))'; then
    say "the face tracker has no wheel for Python $version: everything but the extra \`face\` is installed (Python 3.11 or 3.12 has it all)"
    extras=$(tr , '\n' <<<"$extras" | grep -vx face | paste -sd,)
fi
log=$venv/install.log
say "installing lipsync[$extras]"
say "(about 3 GB the first time, a few minutes; all that pip says goes to $log)"
start=$SECONDS
# shown: downloads of 20 MB and more, and the installation; the rest is in the log
shown() {
    local line large='^ *(Downloading .*\(([2-9][0-9]|[0-9]{3,})[.0-9]* MB\))'
    while IFS= read -r line; do
        printf '%s\n' "$line"
        if [[ $line =~ $large ]]; then say "  ${BASH_REMATCH[1]}" >&3; fi
        if [[ $line == "Installing collected"* ]]; then say "  unpacking and compiling" >&3; fi
    done
} 3>&1 >"$log"
$venv/bin/python -m pip install --disable-pip-version-check --no-input --progress-bar off -c constraints.txt -e ".[$extras]" </dev/null 2>&1 | shown ||
    { tail -n 25 $log >&2; die "pip failed; its whole log: $log"; }
$venv/bin/python -m pip check </dev/null >>$log 2>&1 || { tail -n 10 $log >&2; die "the installed packages contradict each other"; }
touch $venv/.ready
say "ready after $((SECONDS - start)) s"
